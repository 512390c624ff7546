// SPDX-License-Identifier: Apache-2.0

package oci

import "io"

// aheadReader reads a stream in a goroutine of its own, so that what happens
// in there (network, checking the blob's digest) and what happens here
// (decompression) can happen at the same time.
type aheadReader struct {
	full  chan piece
	empty chan []byte
	quit  chan struct{}
	done  chan struct{}

	now  []byte // the rest of the current piece
	back []byte // the whole of it
	err  error
}

type piece struct {
	b   []byte
	err error
}

func readAhead(r io.Reader) *aheadReader {
	a := &aheadReader{
		full:  make(chan piece, 3),
		empty: make(chan []byte, 3),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	for range cap(a.empty) {
		a.empty <- make([]byte, chunk)
	}
	go a.run(r)
	return a
}

func (a *aheadReader) run(r io.Reader) {
	defer close(a.done)
	for {
		var b []byte
		select {
		case b = <-a.empty:
		case <-a.quit:
			return
		}
		n, err := r.Read(b[:cap(b)])
		select {
		case a.full <- piece{b[:n], err}:
		case <-a.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (a *aheadReader) Read(p []byte) (int, error) {
	for len(a.now) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.back != nil {
			a.empty <- a.back
		}
		next := <-a.full
		a.now, a.back, a.err = next.b, next.b, next.err
	}
	n := copy(p, a.now)
	a.now = a.now[n:]
	return n, nil
}

// stop waits until the stream is not used any more.
func (a *aheadReader) stop() {
	close(a.quit)
	<-a.done
}
