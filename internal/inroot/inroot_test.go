// SPDX-License-Identifier: Apache-2.0

package inroot_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/inroot"
)

// Renames anywhere on the host are no reason to fail.
func TestOpenAmongRenames(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	for _, dir := range []string{"run/kubernetes", "var"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../run", filepath.Join(root, "var/run")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(elsewhere, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var renames sync.WaitGroup
	renames.Go(func() {
		for a, b := filepath.Join(elsewhere, "a"), filepath.Join(elsewhere, "b"); ; a, b = b, a {
			select {
			case <-stop:
				return
			default:
			}
			if err := os.Rename(a, b); err != nil {
				t.Error(err)
				return
			}
		}
	})
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(dir) }()
	for range 20_000 {
		fd, err := inroot.Open(dir, "var/run/kubernetes", unix.O_PATH, 0)
		if err != nil {
			t.Error(err)
			break
		}
		_ = unix.Close(fd)
	}
	close(stop)
	renames.Wait()
}

func TestOpenStaysInside(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("../../../../etc/passwd", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(dir) }()
	if _, err := inroot.Open(dir, "link", unix.O_RDONLY, 0); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v, want that there is nothing", err)
	}
	if _, err := inroot.Open(dir, "link", unix.O_RDONLY, unix.RESOLVE_NO_SYMLINKS); !errors.Is(err, unix.ELOOP) {
		t.Errorf("error %v, want ELOOP", err)
	}
}
