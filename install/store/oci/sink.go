// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/tree"
)

// contentSink takes the content of files as the archive yields it. put reads
// n.Size bytes and sets n.Digest, at the latest when wait returns.
type contentSink interface {
	put(n *tree.Node, r io.Reader) error
	wait() error
}

// errSink tells the parser to stop: wait has the reason.
var errSink = errors.New("store layer")

const (
	// smallFile is the size up to which a file is read before it is hashed and
	// written, so that it is not written at all if it is in the store.
	smallFile = 4 << 20
	// inFlight bounds the bytes read and not yet stored, of all layers.
	inFlight = 8 << 20
	chunk    = 256 << 10
)

// writers hash and write files for all layers of an image.
type writers struct {
	txn  *store.Txn
	jobs chan job
	done sync.WaitGroup
	mem  memory
}

type job struct {
	layer  *layerSink
	n      *tree.Node
	pieces [][]byte
	blocks []*block // where the pieces are
}

func newWriters(txn *store.Txn, verity bool) *writers {
	w := &writers{txn: txn, jobs: make(chan job, 64)}
	w.mem.cond.L = &w.mem.mu
	workers := max(2, runtime.GOMAXPROCS(0))
	if verity {
		workers = 16 // each enabling waits for the disk
	}
	for range workers {
		w.done.Go(w.work)
	}
	return w
}

func (w *writers) close() {
	close(w.jobs)
	w.done.Wait()
}

func (w *writers) work() {
	for j := range w.jobs {
		d, err := w.txn.PutObject(j.pieces...)
		j.n.Digest = d
		for _, b := range j.blocks {
			w.mem.drop(b)
		}
		j.layer.finish(err)
	}
}

// memory is what all layers read files into: no more than inFlight, and the same
// again and again, so that there is no garbage.
type memory struct {
	mu   sync.Mutex
	cond sync.Cond
	free []*block
	made int
}

// block is memory for one large piece of a file or many small files.
type block struct {
	b    []byte
	used int // users that have not dropped it; memory.mu guards it
}

// take returns n blocks with one user each. It waits until there are so many.
// Who waits may have none, else all could wait for one another.
func (m *memory) take(n int) []*block {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.free)+inFlight/chunk-m.made < n {
		m.cond.Wait()
	}
	for len(m.free) < n {
		m.free = append(m.free, &block{b: make([]byte, chunk)})
		m.made++
	}
	blocks := slices.Clone(m.free[len(m.free)-n:])
	m.free = m.free[:len(m.free)-n]
	for _, b := range blocks {
		b.used = 1
	}
	return blocks
}

// share adds a user.
func (m *memory) share(b *block) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b.used++
}

// drop takes a user away.
func (m *memory) drop(b *block) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.used--; b.used == 0 {
		m.free = append(m.free, b)
		m.cond.Broadcast()
	}
}

// layerSink is the part of writers that belongs to one layer.
type layerSink struct {
	w       *writers
	pending sync.WaitGroup
	now     *block // the next small files go here, from off on
	off     int
	mu      sync.Mutex
	err     error
}

func (l *layerSink) finish(err error) {
	l.fail(err)
	l.pending.Done()
}

func (l *layerSink) fail(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *layerSink) failed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

func (l *layerSink) put(n *tree.Node, r io.Reader) error {
	if l.failed() {
		return errSink
	}
	if n.Size > smallFile {
		return l.putBig(n, r)
	}
	j := l.place(int(n.Size))
	j.n = n
	for _, p := range j.pieces {
		if _, err := io.ReadFull(r, p); err != nil {
			for _, b := range j.blocks {
				l.w.mem.drop(b)
			}
			return fmt.Errorf("%w: %w", errRead, noEOF(err))
		}
	}
	l.pending.Add(1)
	l.w.jobs <- j
	return nil
}

// place finds memory for a file of the size.
func (l *layerSink) place(size int) job {
	if l.now == nil || size > chunk-l.off {
		l.leave()
		blocks := l.w.mem.take((size + chunk - 1) / chunk)
		j := job{layer: l, blocks: blocks}
		for i, b := range blocks {
			j.pieces = append(j.pieces, b.b[:min(chunk, size-i*chunk)])
		}
		l.now, l.off = blocks[len(blocks)-1], (size-1)%chunk+1
		l.w.mem.share(l.now)
		return j
	}
	piece := l.now.b[l.off : l.off+size]
	l.off += size
	l.w.mem.share(l.now)
	return job{layer: l, pieces: [][]byte{piece}, blocks: []*block{l.now}}
}

// leave gives up the block that the next file would go to.
func (l *layerSink) leave() {
	if l.now != nil {
		l.w.mem.drop(l.now)
		l.now = nil
	}
}

// putBig streams: a second goroutine hashes and writes while this one reads.
func (l *layerSink) putBig(n *tree.Node, r io.Reader) error {
	ow, err := l.w.txn.NewObject(int64(n.Size))
	if err != nil {
		return err
	}
	l.leave()
	blocks := l.w.mem.take(3)
	full, empty := make(chan []byte, len(blocks)), make(chan []byte, len(blocks))
	for _, b := range blocks {
		defer l.w.mem.drop(b)
		empty <- b.b
	}
	result := make(chan error, 1)
	go func() {
		var err error
		for b := range full {
			if err == nil {
				_, err = ow.Write(b)
			}
			empty <- b[:cap(b)]
		}
		result <- err
	}()
	var readErr error
	for left := n.Size; left > 0 && readErr == nil; {
		b := (<-empty)[:min(left, chunk)]
		if _, readErr = io.ReadFull(r, b); readErr == nil {
			full <- b
			left -= uint64(len(b))
		}
	}
	close(full)
	err = <-result
	if readErr != nil {
		ow.Discard()
		return fmt.Errorf("%w: %w", errRead, noEOF(readErr))
	}
	if err == nil {
		n.Digest, err = ow.Finish()
	}
	if err != nil {
		ow.Discard()
	}
	return err
}

func (l *layerSink) wait() error {
	l.leave()
	l.pending.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
