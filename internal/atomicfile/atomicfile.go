// SPDX-License-Identifier: Apache-2.0

// Package atomicfile makes files, symlinks and directories so that a crash at
// any moment leaves either the old or the new one, never a part, and so that
// what a call reported as done is on the disk.
//
// While a call is under way, the new file has the name Temp(path) in the same
// directory; a crash may leave it there. Callers hold a lock that keeps others
// from writing the same path.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Temp is the name that a file for path has until it is complete.
func Temp(path string) string {
	dir, base := filepath.Split(path)
	return dir + "." + base + ".atomic-tmp"
}

// Attr are the attributes of a new file.
type Attr struct {
	Mode     fs.FileMode
	UID, GID int
}

// Own are the attributes of a file that belongs to the caller.
func Own(mode fs.FileMode) Attr {
	return Attr{Mode: mode, UID: os.Geteuid(), GID: os.Getegid()}
}

// Create makes a regular file and fails with fs.ErrExist if there is anything
// at path.
func Create(path string, data []byte, a Attr) error {
	return put(path, unix.RENAME_NOREPLACE, func(tmp string) error { return write(tmp, data, a) })
}

// Replace makes a regular file in the place of whatever file is at path.
func Replace(path string, data []byte, a Attr) error {
	return put(path, 0, func(tmp string) error { return write(tmp, data, a) })
}

// CreateLink makes a symlink and fails with fs.ErrExist if there is anything
// at path.
func CreateLink(target, path string) error {
	return put(path, unix.RENAME_NOREPLACE, func(tmp string) error { return os.Symlink(target, tmp) })
}

// ReplaceLink makes a symlink in the place of whatever file is at path.
func ReplaceLink(target, path string) error {
	return put(path, 0, func(tmp string) error { return os.Symlink(target, tmp) })
}

func put(path string, flags uint, make func(tmp string) error) error {
	tmp := Temp(path)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := make(tmp); err != nil {
		os.Remove(tmp) //nolint:errcheck // the first error is the one to report
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, flags); err != nil {
		os.Remove(tmp) //nolint:errcheck // the first error is the one to report
		return &os.PathError{Op: "rename to", Path: path, Err: err}
	}
	return SyncDir(filepath.Dir(path))
}

func write(path string, data []byte, a Attr) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := f.Chown(a.UID, a.GID); err != nil {
			return err
		}
	}
	if err := f.Chmod(a.Mode); err != nil { // after chown, which clears setuid
		return err
	}
	return f.Sync()
}

// Remove removes a file, symlink or empty directory; it is no error if it is
// gone already.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir writes a directory's entries to the disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
