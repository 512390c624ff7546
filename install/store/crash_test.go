// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/storetest"
	"github.com/atomic-agent/atomic/internal/hint"
)

func contextDone(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), 20*time.Millisecond)
}

const victimEnv = "ATOMIC_STORE_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		victim(dir)
	}
	os.Exit(m.Run())
}

// victim installs, updates, uninstalls and collects garbage until it is killed.
func victim(dir string) {
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for g := rand.New(rand.NewPCG(uint64(os.Getpid()), 3)); ; {
		name, first := "c"+strconv.Itoa(g.IntN(3)), g.IntN(30)
		switch g.IntN(6) {
		case 0:
			err = s.RemoveRef(context.Background(), name, g.IntN(2))
		case 1:
			if err = s.Untag(context.Background(), "reg.test/"+name); errors.Is(err, store.ErrNotFound) {
				err = nil
			}
		case 2:
			_, err = s.GC(context.Background())
		default:
			var txn *store.Txn
			if txn, err = s.Begin(context.Background()); err == nil {
				err = install(txn, name, g.IntN(2), first, first+g.IntN(20))
			}
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// TestKill kills the process at random moments. Afterwards the store must be
// clean, every ref complete, and the next installation must work.
func TestKill(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 10
	}
	dir := filepath.Join(t.TempDir(), "store")
	for range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), victimEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ready := make([]byte, len("ready"))
		if _, err := io.ReadFull(out, ready); err != nil || string(ready) != "ready" {
			t.Fatalf("the victim says %q, %v", ready, err)
		}
		// The moment of the kill is what the test is about, not an order.
		time.Sleep(time.Duration(rand.IntN(60_000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(out) // it was killed: the error says nothing
		_ = cmd.Wait()
		if s := strings.TrimSpace(string(said)); s != "" {
			t.Fatalf("the victim failed before it was killed: %s", s)
		}
		s := storetest.Open(t, dir)
		if fsckClean(t, s); t.Failed() {
			t.FailNow()
		}
	}
	s := storetest.Open(t, dir)
	if err := install(storetest.Begin(t, s), "last", 0, 0, 40); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	fsckClean(t, s)
	if e, err := os.ReadDir(filepath.Join(dir, "staging")); err != nil || len(e) != 0 {
		t.Errorf("staging has %d entries, %v", len(e), err)
	}
}

// TestParallel runs installations against gc and fsck.
func TestParallel(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	storetest.Open(t, dir)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			s, err := store.Open(dir, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			for gen := range 3 {
				txn, err := s.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if err := install(txn, "c"+strconv.Itoa(i), gen, i, i+10+gen); err != nil {
					t.Error(err)
				}
				txn.Abort()
			}
		})
	}
	for range 5 {
		wg.Go(func() {
			s, err := store.Open(dir, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := s.GC(t.Context()); err != nil && !errors.Is(err, store.ErrBusy) {
				t.Error(err)
			}
			if rep, err := s.Fsck(t.Context(), store.FsckOptions{}); err != nil || !rep.Clean() {
				t.Errorf("fsck: %+v, %v", rep, err)
			}
		})
	}
	wg.Wait()
	s := storetest.Open(t, dir)
	if refs, err := s.Refs(); err != nil || len(refs) != 30 {
		t.Errorf("%d refs, %v", len(refs), err)
	}
	fsckClean(t, s)
}

// TestNoSpace fills a small file system to every possible degree, so that each
// write of an installation is the one that fails.
func TestNoSpace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("no mkfs.ext4")
	}
	dir := t.TempDir()
	img := filepath.Join(dir, "fs.img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 24<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), mkfs, "-q", "-b", "4096", "-m", "0", img).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", img, mnt).CombinedOutput(); err != nil {
		t.Skipf("no loop mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	})
	s := storetest.Open(t, filepath.Join(mnt, "store"))
	if err := install(storetest.Begin(t, s), "first", 0, 0, 5); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(mnt, "ballast")
	free := fill(t, ballast)
	failed, step := 0, int64(64<<10)
	if testing.Short() {
		step *= 8
	}
	for room := int64(0); room < free; room += step {
		if err := os.Truncate(ballast, max(0, free-room)); err != nil {
			t.Fatal(err)
		}
		txn, err := s.Begin(t.Context())
		if err == nil {
			err = install(txn, "second", 0, 100, 200)
			txn.Abort()
		}
		if err == nil {
			break
		}
		failed++
		if !errors.Is(err, unix.ENOSPC) || hint.Of(err) == "" {
			t.Fatalf("room %d: %v (hint %q)", room, err, hint.Of(err))
		}
		if fsckClean(t, s); t.Failed() {
			t.FailNow()
		}
		if refs, err := s.Refs(); err != nil || len(refs) != 1 {
			t.Fatalf("room %d: refs %+v, %v", room, refs, err)
		}
	}
	if failed < 3 {
		t.Errorf("only %d installations ran out of space", failed)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := install(storetest.Begin(t, s), "second", 0, 100, 200); err != nil {
		t.Fatal(err)
	}
	fsckClean(t, s)
	t.Logf("%d installations ran out of space", failed)
}

// fill writes a file until the file system is full and returns its size.
func fill(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for b := make([]byte, 64<<10); ; {
		n, err := f.Write(b)
		size += int64(n)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return size
}
