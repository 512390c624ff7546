// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
)

const blocks = 64

func newDisk(t *testing.T) (*Disk, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, blocks*BlockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() }) // the test is over
	return d, path
}

func write(t *testing.T, d *Disk, off int64, p []byte) {
	t.Helper()
	if n, err := d.WriteAt(p, off); n != len(p) || err != nil {
		t.Fatalf("write %d bytes at %d: %d, %v", len(p), off, n, err)
	}
}

func read(t *testing.T, d *Disk, off int64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := d.ReadAt(p, off); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestReadsItsWrites compares random reads and writes with a plain buffer.
func TestReadsItsWrites(t *testing.T) {
	d, path := newDisk(t)
	random := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, blocks*BlockSize)
	for range 2000 {
		off := random.IntN(len(want))
		n := random.IntN(min(len(want)-off, 3*BlockSize) + 1)
		switch random.IntN(10) {
		case 0:
			if err := d.Flush(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatal("the file is not what was flushed")
			}
		case 1, 2, 3, 4:
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			write(t, d, int64(off), p)
			copy(want[off:], p)
		default:
			if got := read(t, d, int64(off), n); !bytes.Equal(got, want[off:off+n]) {
				t.Fatalf("%d bytes at %d differ", n, off)
			}
		}
	}
}

func TestCutLosesOnlyWhatWasNotFlushed(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var sumKept, sumLost int
	for range 50 {
		d, _ := newDisk(t)
		old, fresh := bytes.Repeat([]byte{1}, BlockSize), bytes.Repeat([]byte{2}, BlockSize)
		for b := range int64(blocks) {
			write(t, d, b*BlockSize, old)
		}
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
		for b := range int64(blocks / 2) {
			write(t, d, 2*b*BlockSize, fresh)
		}
		kept, lost, err := d.Cut(random)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for b := range int64(blocks) {
			switch got := read(t, d, b*BlockSize, BlockSize); {
			case bytes.Equal(got, fresh) && b%2 == 0:
				n++
			case !bytes.Equal(got, old):
				t.Fatalf("block %d is neither old nor new", b)
			}
		}
		if n != kept || kept+lost != blocks/2 {
			t.Fatalf("%d new blocks, kept %d, lost %d of %d", n, kept, lost, blocks/2)
		}
		sumKept, sumLost = sumKept+kept, sumLost+lost
	}
	if sumKept == 0 || sumLost == 0 {
		t.Errorf("kept %d, lost %d: a cut must do both", sumKept, sumLost)
	}
}

func TestBounds(t *testing.T) {
	d, _ := newDisk(t)
	for _, off := range []int64{-1, d.Size(), d.Size() - 1} {
		if _, err := d.WriteAt([]byte{1, 2}, off); err == nil {
			t.Errorf("wrote two bytes at %d", off)
		}
		if _, err := d.ReadAt(make([]byte, 2), off); err == nil {
			t.Errorf("read two bytes at %d", off)
		}
	}
}

// TestServe is a client that does what QEMU does. QEMU itself is the better
// test (package vm); this one needs nothing.
func TestServe(t *testing.T) {
	d, _ := newDisk(t)
	client, server := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- d.Serve(server); server.Close() }()
	be := binary.BigEndian
	send := func(b []byte) {
		t.Helper()
		if _, err := client.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(n int) []byte {
		t.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(client, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	option := func(id uint32) []byte {
		b := be.AppendUint32(be.AppendUint64(nil, optionMagic), id)
		return be.AppendUint32(b, 0)
	}
	request := func(cmd uint16, off int64, size int, data []byte) {
		t.Helper()
		b := be.AppendUint16(be.AppendUint16(be.AppendUint32(nil, requestMagic), 0), cmd)
		b = be.AppendUint64(be.AppendUint64(b, 42), uint64(off))
		send(append(be.AppendUint32(b, uint32(size)), data...))
	}
	reply := func() uint32 {
		t.Helper()
		b := receive(16)
		if be.Uint32(b) != replyMagic || be.Uint64(b[8:]) != 42 {
			t.Fatalf("bad reply %x", b)
		}
		return be.Uint32(b[4:])
	}

	receive(18)
	send([]byte{0, 0, 0, flagFixed | flagNoZeroes})
	send(option(8)) // NBD_OPT_STRUCTURED_REPLY
	if b := receive(optReplySize); be.Uint32(b[12:]) != repErrUnsup {
		t.Fatalf("reply to an unknown option: %x", b)
	}
	send(option(optGo))
	if b := receive(optReplySize + 12); be.Uint64(b[optReplySize+2:]) != uint64(d.Size()) {
		t.Fatalf("export: %x", b)
	}
	receive(optReplySize)

	want := bytes.Repeat([]byte("x"), 5000)
	request(cmdWrite, 100, len(want), want)
	if e := reply(); e != 0 {
		t.Fatalf("write: error %d", e)
	}
	request(cmdFlush, 0, 0, nil)
	if e := reply(); e != 0 {
		t.Fatalf("flush: error %d", e)
	}
	request(cmdRead, 100, len(want), nil)
	if e := reply(); e != 0 {
		t.Fatalf("read: error %d", e)
	}
	if got := receive(len(want)); !bytes.Equal(got, want) {
		t.Error("read something else than written")
	}
	request(cmdRead, d.Size(), 1, nil)
	if e := reply(); e == 0 {
		t.Error("read beyond the end")
	}
	request(cmdDisconnect, 0, 0, nil)
	if err := <-served; err != nil {
		t.Error(err)
	}
}
