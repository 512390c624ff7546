// SPDX-License-Identifier: Apache-2.0

// Package flock takes advisory locks on lock files. A lock ends with the
// process that holds it, however that process ends; the lock file stays.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy says that another process holds the lock.
var ErrBusy = errors.New("locked by another process")

// BusyError is ErrBusy with the holder, as far as it is known.
type BusyError struct {
	Path   string
	Holder string // what the holder wrote about itself, "" if unknown
}

func (e *BusyError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("%s: %v", e.Path, ErrBusy)
	}
	return fmt.Sprintf("%s: %v (%s)", e.Path, ErrBusy, e.Holder)
}

// Unwrap makes errors.Is(err, ErrBusy) true.
func (e *BusyError) Unwrap() error { return ErrBusy }

// Lock is a lock that is held.
type Lock struct{ f *os.File }

// Try takes the exclusive lock at path or fails with a *BusyError at once.
// It makes the file and its directory if need be.
func Try(path string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		return nil, &BusyError{Path: path, Holder: holder(f)}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	sign(f)
	return &Lock{f}, nil
}

// Wait takes the exclusive lock at path, waiting for its holder until ctx ends.
func Wait(ctx context.Context, path string) (*Lock, error) {
	// flock(2) cannot be interrupted from Go without racing a signal, so ask
	// again; the holders hold it for milliseconds.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := Try(path)
		if !errors.Is(err, ErrBusy) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

// Unlock gives the lock back.
func (l *Lock) Unlock() { l.f.Close() }

// sign leaves the holder's identity in the lock file, for the message of those
// who find it locked; it does not matter whether that succeeds.
func sign(f *os.File) {
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "pid %d\n", os.Getpid()), 0)
	}
}

func holder(f *os.File) string {
	buf := make([]byte, 64)
	n, _ := f.ReadAt(buf, 0)
	return strings.TrimSpace(string(buf[:n]))
}
