// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"runtime"
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
	// smallFile is the size up to which a file is handed over in one piece,
	// so that it is hashed before it is written, and not written at all if it
	// is in the store.
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
	pool [poolClasses]sync.Pool

	mu   sync.Mutex
	cond *sync.Cond
	used int64
}

type job struct {
	layer *layerSink
	n     *tree.Node
	buf   *[]byte
}

func newWriters(txn *store.Txn, verity bool) *writers {
	w := &writers{txn: txn, jobs: make(chan job, 64)}
	w.cond = sync.NewCond(&w.mu)
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
		b := *j.buf
		d, err := w.txn.PutObject(b)
		j.n.Digest = d
		w.release(int64(cap(b)))
		if class := sizeClass(cap(b)); class < poolClasses {
			w.pool[class].Put(j.buf)
		}
		j.layer.finish(err)
	}
}

func (w *writers) reserve(n int64) {
	w.mu.Lock()
	for w.used > 0 && w.used+n > inFlight {
		w.cond.Wait()
	}
	w.used += n
	w.mu.Unlock()
}

func (w *writers) release(n int64) {
	w.mu.Lock()
	w.used -= n
	w.mu.Unlock()
	w.cond.Broadcast()
}

// Buffers of 4 KiB to 256 KiB are used again; larger ones are rare, and keeping
// them would be keeping the memory.
const poolClasses = 7

// sizeClass returns the smallest class whose buffers have n bytes.
func sizeClass(n int) int { return max(0, bits.Len(uint(n-1))-12) }

// buffer returns memory for n bytes.
func (w *writers) buffer(n int) *[]byte {
	class := sizeClass(n)
	if class >= poolClasses {
		b := make([]byte, n)
		return &b
	}
	if b, ok := w.pool[class].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, 1<<(class+12))
	return &b
}

// layerSink is the part of writers that belongs to one layer.
type layerSink struct {
	w       *writers
	pending sync.WaitGroup
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
	buf := l.w.buffer(int(n.Size))
	l.w.reserve(int64(cap(*buf)))
	if _, err := io.ReadFull(r, *buf); err != nil {
		l.w.release(int64(cap(*buf)))
		return fmt.Errorf("%w: %w", errRead, noEOF(err))
	}
	l.pending.Add(1)
	l.w.jobs <- job{l, n, buf}
	return nil
}

// putBig streams: a second goroutine hashes and writes while this one reads.
func (l *layerSink) putBig(n *tree.Node, r io.Reader) error {
	ow, err := l.w.txn.NewObject(int64(n.Size))
	if err != nil {
		return err
	}
	full, empty := make(chan []byte, 2), make(chan []byte, 3)
	for range cap(empty) {
		empty <- make([]byte, chunk)
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
	l.pending.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
