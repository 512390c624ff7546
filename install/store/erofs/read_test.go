// SPDX-License-Identifier: Apache-2.0

package erofs_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/atomic-agent/atomic/install/store/dump"
	"github.com/atomic-agent/atomic/install/store/erofs"
)

// TestReadBack writes random trees, reads them, and writes them again.
func TestReadBack(t *testing.T) {
	for seed := range uint64(200) {
		tr := randomTree(seed)
		for version := range uint32(2) {
			var img bytes.Buffer
			if err := erofs.Write(&img, tr, version); err != nil {
				continue // too many xattrs: the oracle test knows
			}
			back, err := erofs.Read(img.Bytes())
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			var again bytes.Buffer
			if err := erofs.Write(&again, back, version); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if !bytes.Equal(img.Bytes(), again.Bytes()) {
				t.Fatalf("seed %d, version %d: %s", seed, version, firstDifference(again.Bytes(), img.Bytes()))
			}
		}
	}
}

// TestDumpBack does the same through the dump format.
func TestDumpBack(t *testing.T) {
	for seed := range uint64(200) {
		tr := randomTree(seed)
		var want, text, got bytes.Buffer
		if err := erofs.Write(&want, tr, 1); err != nil {
			continue
		}
		if err := dump.Write(&text, tr); err != nil {
			t.Fatal(err)
		}
		back, err := dump.Read(&text)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := erofs.Write(&got, back, 1); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("seed %d: %s", seed, firstDifference(got.Bytes(), want.Bytes()))
		}
	}
}

func FuzzRead(f *testing.F) {
	for seed := range uint64(8) {
		var img bytes.Buffer
		if err := erofs.Write(&img, randomTree(seed), uint32(seed%2)); err == nil {
			f.Add(img.Bytes())
		}
	}
	f.Add([]byte("no image"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := erofs.Read(b)
		if err != nil {
			if !errors.Is(err, erofs.ErrFormat) {
				t.Errorf("error %v is no ErrFormat", err)
			}
			return
		}
		// What can be read can be written, or is refused with an error.
		var img bytes.Buffer
		_ = erofs.Write(&img, tr, 1)
	})
}
