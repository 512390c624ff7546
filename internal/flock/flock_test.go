// SPDX-License-Identifier: Apache-2.0

package flock_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/internal/flock"
)

func TestTry(t *testing.T) {
	file := filepath.Join(t.TempDir(), "locks", "etcd")
	l, err := flock.Try(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = flock.Try(file)
	if !errors.Is(err, flock.ErrBusy) {
		t.Fatalf("second Try: %v, want ErrBusy", err)
	}
	if want := "pid " + strconv.Itoa(os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("%q does not name the holder %q", err, want)
	}
	l.Unlock()
	l, err = flock.Try(file)
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
}

func TestWait(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	held, err := flock.Try(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := flock.Wait(ctx, file); !errors.Is(err, context.Canceled) || !errors.Is(err, flock.ErrBusy) {
		t.Errorf("Wait with an ended context: %v", err)
	}
	done := make(chan error)
	go func() {
		l, err := flock.Wait(t.Context(), file)
		if err == nil {
			l.Unlock()
		}
		done <- err
	}()
	held.Unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
