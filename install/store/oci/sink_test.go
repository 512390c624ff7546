// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/storetest"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// TestSink has more layers than there is memory for, with files of all sizes
// around those of the pieces they are read in: every file must arrive as it is,
// and nobody may wait for memory for ever.
func TestSink(t *testing.T) {
	txn := storetest.Begin(t, storetest.Open(t, filepath.Join(t.TempDir(), "store")))
	w := newWriters(txn, false)
	sizes := []int{65, 4096, chunk - 65, chunk - 1, chunk, chunk + 1, 3*chunk + 7, smallFile - 1, smallFile, smallFile + 1, smallFile + chunk}
	var wg sync.WaitGroup
	for i := range uint64(8) {
		wg.Go(func() {
			g := rand.New(rand.NewPCG(i, 1))
			sink := &layerSink{w: w}
			want := map[*tree.Node]verity.Digest{}
			for range 16 {
				size := sizes[g.IntN(len(sizes))]
				if g.IntN(2) == 0 {
					size = 65 + g.IntN(chunk/4)
				}
				b := content(size, g.Uint64())
				n := &tree.Node{Size: uint64(size)}
				want[n] = verity.Of(b)
				if err := sink.put(n, bytes.NewReader(b)); err != nil {
					t.Error(err)
				}
			}
			if err := sink.wait(); err != nil {
				t.Error(err)
			}
			for n, d := range want {
				if n.Digest != d {
					t.Errorf("layer %d: a file of %d bytes has the digest %s, want %s", i, n.Size, n.Digest, d)
				}
				checkObject(t, txn, n)
			}
		})
	}
	wg.Wait()
	w.close()
	if len(w.mem.free) != w.mem.made {
		t.Errorf("%d of %d blocks came back", len(w.mem.free), w.mem.made)
	}
}

func content(size int, seed uint64) []byte {
	b := make([]byte, size+8)
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], seed+uint64(i))
	}
	return b[:size]
}

// checkObject reads a staged file.
func checkObject(t *testing.T, txn *store.Txn, n *tree.Node) {
	t.Helper()
	f, err := txn.OpenObject(n.Digest)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	d, size, err := verity.OfReader(f)
	if err != nil || d != n.Digest || uint64(size) != n.Size {
		t.Errorf("object of %d bytes is %s with %d bytes, %v, want %s", n.Size, d, size, err, n.Digest)
	}
}

// TestSinkTruncated ends a layer inside a file, of which nothing may stay in use.
func TestSinkTruncated(t *testing.T) {
	txn := storetest.Begin(t, storetest.Open(t, filepath.Join(t.TempDir(), "store")))
	w := newWriters(txn, false)
	for _, size := range []int{100, 3 * chunk, smallFile + 1} {
		sink := &layerSink{w: w}
		r := bytes.NewReader(make([]byte, size-1))
		if err := sink.put(&tree.Node{Size: uint64(size)}, r); err == nil {
			t.Errorf("%d bytes: no error", size)
		}
		if err := sink.wait(); err != nil {
			t.Error(err)
		}
	}
	w.close()
	if len(w.mem.free) != w.mem.made {
		t.Errorf("%d of %d blocks came back", len(w.mem.free), w.mem.made)
	}
}
