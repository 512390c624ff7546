// SPDX-License-Identifier: Apache-2.0

package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/atomic-agent/atomic/internal/atomicfile"
)

func TestCreateAndReplace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	a := atomicfile.Own(0o640)

	// A crashed predecessor's temporary file is in nobody's way.
	if err := os.WriteFile(atomicfile.Temp(file), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Create(file, []byte("one"), a); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Create(file, []byte("two"), a); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v, want fs.ErrExist", err)
	}
	if err := atomicfile.CreateLink("x", file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateLink: %v, want fs.ErrExist", err)
	}
	want(t, file, "one")
	if err := atomicfile.Replace(file, []byte("three"), a); err != nil {
		t.Fatal(err)
	}
	want(t, file, "three")
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode: %v, %v", st.Mode(), err)
	}
	if err := atomicfile.ReplaceLink("target", file); err != nil {
		t.Fatal(err)
	}
	if got, err := os.Readlink(file); got != "target" || err != nil {
		t.Errorf("link: %q, %v", got, err)
	}
	for range 2 {
		if err := atomicfile.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func want(t *testing.T, file, content string) {
	t.Helper()
	if got, err := os.ReadFile(file); err != nil || string(got) != content {
		t.Errorf("%s: %q, %v; want %q", file, got, err, content)
	}
}
