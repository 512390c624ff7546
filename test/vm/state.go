// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/atomic-agent/atomic/test/bed"
)

// newState makes the directory of a new machine. One machine runs at a time:
// two emulated ones only get into each other's way. So whoever holds the lock
// may remove what a killed predecessor has left.
func newState(ctx context.Context) (dir string, free func(), err error) {
	cache, err := bed.CacheDir()
	if err != nil {
		return "", nil, err
	}
	base := filepath.Join(cache, "vm")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", nil, err
	}
	lock, err := os.OpenFile(filepath.Join(base, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", nil, err
	}
	if err := waitLock(ctx, lock); err != nil {
		lock.Close()
		return "", nil, fmt.Errorf("wait for another virtual machine: %w", err)
	}
	free = func() { lock.Close() }
	if err := sweep(base); err != nil {
		free()
		return "", nil, err
	}
	if dir, err = os.MkdirTemp(base, "run-"); err != nil {
		free()
		return "", nil, err
	}
	return dir, free, nil
}

func sweep(base string) error {
	for _, pattern := range []string{"run-*", "build-*"} {
		names, err := filepath.Glob(filepath.Join(base, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitLock locks f. flock(2) has no deadline: ask until it is ours.
func waitLock(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func touch(path string) error {
	now := time.Now()
	return os.Chtimes(path, now, now)
}
