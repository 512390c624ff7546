// SPDX-License-Identifier: Apache-2.0

package erofs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/install/store/dump"
	"github.com/atomic-agent/atomic/install/store/erofs"
)

// mkcomposefs returns the command line of upstream's mkcomposefs 1.0.8: what
// ATOMIC_MKCOMPOSEFS says, else the program on PATH.
func mkcomposefs(t *testing.T) []string {
	t.Helper()
	if v := os.Getenv("ATOMIC_MKCOMPOSEFS"); v != "" {
		return strings.Fields(v)
	}
	if p, err := exec.LookPath("mkcomposefs"); err == nil {
		return []string{p}
	}
	t.Skip("no mkcomposefs to compare with: set ATOMIC_MKCOMPOSEFS to what test/oracle/mkcomposefs.sh prints")
	return nil
}

func TestByteEqualRandom(t *testing.T) {
	oracle := mkcomposefs(t)
	trees := 500
	if testing.Short() {
		trees = 50
	}
	dir := t.TempDir()
	same, refused := 0, 0
	for seed := range uint64(trees) {
		tr := randomTree(seed)
		var text bytes.Buffer
		if err := dump.Write(&text, tr); err != nil {
			t.Fatal(err)
		}
		for version := range uint32(2) {
			out := filepath.Join(dir, "image")
			v := fmt.Sprint(version)
			args := append(oracle[1:len(oracle):len(oracle)], "--from-file", "--min-version="+v, "--max-version="+v, "-", out)
			cmd := exec.CommandContext(t.Context(), oracle[0], args...)
			cmd.Stdin = bytes.NewReader(text.Bytes())
			if msg, err := cmd.CombinedOutput(); err != nil {
				refused++
				t.Logf("seed %d: mkcomposefs refuses the tree: %s", seed, bytes.TrimSpace(msg))
				break
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := erofs.Write(&got, tr, version); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("seed %d, version %d: %s", seed, version, firstDifference(got.Bytes(), want))
			}
			same++
		}
	}
	t.Logf("%d images identical, %d trees refused by mkcomposefs", same, refused)
	if refused*10 > trees {
		t.Errorf("mkcomposefs refused %d of %d trees: the generator is too wild to compare", refused, trees)
	}
}

func firstDifference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("sizes %d and %d, first difference at %d: got %x, want %x",
				len(got), len(want), i, got[i:min(i+16, len(got))], want[i:min(i+16, len(want))])
		}
	}
	return fmt.Sprintf("sizes %d and %d, equal up to there", len(got), len(want))
}
