// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestCachedBuildsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "thing")
	var builds atomic.Int32
	build := func(_ context.Context, tmp string) error {
		builds.Add(1)
		if _, err := os.Stat(path); err == nil {
			t.Error("visible before it is complete")
		}
		if err := os.Mkdir(tmp, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(tmp, "file"), nil, 0o644)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := cached(t.Context(), path, build); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(path, "file")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

func TestCachedFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "thing")
	boom := errors.New("boom")
	err := cached(t.Context(), path, func(_ context.Context, tmp string) error {
		return errors.Join(os.MkdirAll(filepath.Join(tmp, "half"), 0o755), boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	for _, left := range []string{path, path + ".tmp"} {
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("left behind: %s", left)
		}
	}
	// What a killed builder left does not disturb the next.
	if err := os.MkdirAll(filepath.Join(path+".tmp", "half"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cached(t.Context(), path, func(_ context.Context, tmp string) error { return os.Mkdir(tmp, 0o755) }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "half")); err == nil {
		t.Error("contains what a failed build left")
	}
}

func TestLockFileWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockFile(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("locked twice: %v", err)
	}
	unlock()
	unlock, err = lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestCacheDir(t *testing.T) {
	t.Setenv("ATOMIC_TEST_CACHE", "/somewhere")
	if dir, err := CacheDir(); dir != "/somewhere" || err != nil {
		t.Errorf("got %q, %v", dir, err)
	}
	t.Setenv("ATOMIC_TEST_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "/home/x")
	if dir, err := CacheDir(); dir != "/home/x/.cache/atomic-test" || err != nil {
		t.Errorf("got %q, %v", dir, err)
	}
	t.Setenv("HOME", "")
	if dir, err := CacheDir(); dir != "/root/.cache/atomic-test" || err != nil {
		t.Errorf("got %q, %v", dir, err)
	}
}

func TestPKI(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := makePKI(dir); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("no authority: %v", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"registry.test": true, "127.0.0.1": true, "other.test": false} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool})
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
