// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// logFile is a log, locked by us.
type logFile struct {
	*os.File
	// end is where the next record goes.
	end int64
}

// openLog opens a log, creates it if need be, and waits for its lock.
func openLog(ctx context.Context, path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open event log: %w", err)
		}
		if err := lockFile(ctx, f); err != nil {
			return nil, err
		}
		// Somebody may have removed the log while we waited for it.
		ours, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if named, err := os.Lstat(path); err == nil && os.SameFile(ours, named) {
			return &logFile{File: f, end: ours.Size()}, nil
		}
		f.Close()
	}
}

// lockFile locks f, or closes it. flock(2) cannot be given a deadline; whoever
// gives up leaves the waiting to a goroutine that closes f when its turn comes.
func lockFile(ctx context.Context, f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	locked := make(chan struct{})
	go func() {
		defer close(locked)
		err = unix.EINTR
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
	}()
	select {
	case <-locked:
		if err != nil {
			return errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		return nil
	case <-ctx.Done():
		go func() {
			<-locked
			f.Close()
		}()
		return busy(f.Name(), ctx.Err())
	}
}

// last returns the last record, or nil. A torn record behind it is cut off.
func (l *logFile) last() (*eventlog.Record, error) {
	const window = 2 * eventlog.MaxRecord
	from := max(0, l.end-window)
	buf := make([]byte, l.end-from)
	if _, err := l.ReadAt(buf, from); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	r, torn, err := eventlog.Last(buf)
	if err == nil && r == nil && from > 0 {
		err = fmt.Errorf("no record in its last %d bytes", window)
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("read event log %s: %w", l.Name(), err),
			"the log is damaged; move it away, then reboot or run `atomic attest ack`")
	}
	if torn > 0 {
		return r, l.cut(l.end - int64(torn))
	}
	return r, nil
}

func (l *logFile) cut(end int64) error {
	if err := l.Truncate(end); err != nil {
		return fmt.Errorf("cut torn record off the event log: %w", err)
	}
	l.end = end
	return nil
}

// append writes one record and makes it durable. After an error the log is as
// it was, as far as the file system allows.
func (l *logFile) append(data []byte) error {
	_, err := l.WriteAt(data, l.end)
	if err == nil {
		err = l.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("append to event log: %w", err), l.Truncate(l.end))
	}
	l.end += int64(len(data))
	return nil
}
