// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/atomic-agent/atomic/install/store"
)

// memoryCases are layers of which everything grows without end; count is how
// many entries they have.
var memoryCases = []struct {
	name    string
	count   int
	refused bool
	entry   func(i int) tar.Header
}{
	{"almost too many files", 190_000, false, func(i int) tar.Header {
		return tar.Header{Name: fmt.Sprintf("d%d/f%d", i%1000, i), Typeflag: tar.TypeReg, Mode: 0o644}
	}},
	{"too many files", 1_000_000, true, func(i int) tar.Header {
		return tar.Header{Name: fmt.Sprintf("d%d/f%d", i%1000, i), Typeflag: tar.TypeReg, Mode: 0o644}
	}},
	{"directories in directories", 1_000_000, true, func(i int) tar.Header {
		return tar.Header{Name: fmt.Sprintf("%s%d", strings.Repeat("d/", 1000), i), Typeflag: tar.TypeDir, Mode: 0o755}
	}},
	{"almost too long targets", 12_600, false, func(i int) tar.Header {
		return tar.Header{Name: fmt.Sprintf("l%d", i), Typeflag: tar.TypeSymlink, Linkname: fmt.Sprintf("%04090d", i)}
	}},
	{"long targets", 1_000_000, true, func(i int) tar.Header {
		return tar.Header{Name: fmt.Sprintf("l%d", i), Typeflag: tar.TypeSymlink, Linkname: fmt.Sprintf("%04090d", i)}
	}},
	{"whiteouts", 1_000_000, true, func(i int) tar.Header {
		return tar.Header{Name: fmt.Sprintf(".wh.%0200d", i), Typeflag: tar.TypeReg}
	}},
	{"hard links", 1_000_000, true, func(i int) tar.Header {
		return tar.Header{Name: fmt.Sprintf("h%d", i), Typeflag: tar.TypeLink, Linkname: strings.Repeat("x/", 1000)}
	}},
	{"almost too many attributes", 3_000, false, attributes},
	{"attributes", 1_000_000, true, attributes},
}

func attributes(i int) tar.Header {
	h := tar.Header{Name: fmt.Sprintf("x%d", i), Typeflag: tar.TypeReg, PAXRecords: map[string]string{}}
	for k := range 100 {
		h.PAXRecords[fmt.Sprintf("SCHILY.xattr.user.%d", k)] = fmt.Sprint(i)
	}
	return h
}

const memoryEnv = "ATOMIC_TEST_MEMORY_CASE"

// TestMemory stores layers with metadata of all kinds, as much as is accepted
// and far more, each in a process of its own: none may need more than 128 MiB.
func TestMemory(t *testing.T) {
	if name := os.Getenv(memoryEnv); name != "" {
		storeCase(t, name)
		return
	}
	if testing.Short() {
		t.Skip("takes long")
	}
	for _, tt := range memoryCases {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemory$")
			cmd.Env = append(os.Environ(), memoryEnv+"="+tt.name)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok {
				t.Fatal("no usage")
			}
			t.Logf("%d MiB", usage.Maxrss>>10)
			if usage.Maxrss > 128<<10 {
				t.Errorf("%d MiB, want 128 at most", usage.Maxrss>>10)
			}
		})
	}
}

func storeCase(t *testing.T, name string) {
	debug.SetMemoryLimit(store.DefaultMaxMetadata + 24<<20) // as the agent does
	for _, tt := range memoryCases {
		if tt.name != name {
			continue
		}
		r, w := io.Pipe()
		go func() {
			tw := tar.NewWriter(w)
			for i := range tt.count {
				h := tt.entry(i)
				if tw.WriteHeader(&h) != nil {
					return // the other side has had enough
				}
			}
			_ = w.CloseWithError(tw.Close()) // always nil
		}()
		txn := newTxn(t)
		img, err := put(t, txn, r)
		_ = r.Close() // always nil
		if tt.refused {
			if !errors.Is(err, store.ErrMetadata) {
				t.Errorf("error %v, want %v", err, store.ErrMetadata)
			}
			return
		}
		if err == nil {
			_, err = txn.PutImage(img.Tree)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
