// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sweep removes what beds of killed processes left behind. Living beds are not
// touched. Boot calls it.
func Sweep(ctx context.Context) error {
	beds, err := cachePath("beds")
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(beds)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	unlock, err := lockFile(ctx, beds+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	for _, e := range entries {
		if err := sweepOne(filepath.Join(beds, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func sweepOne(dir string) error {
	// A killed Close may have removed the lock file already.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // closed by its owner since ReadDir
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil // somebody lives here
	}
	group, err := cgroupOf(filepath.Base(dir))
	if err != nil {
		return err
	}
	return removeState(dir, group)
}

// removeState removes everything that a bed leaves outside its namespaces.
// The caller holds the lock in dir, which goes last.
func removeState(dir string, group cgroup) error {
	if err := group.remove(); err != nil {
		return err
	}
	if err := detachLoops(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "lock" {
			continue
		}
		if err := removeAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// removeAll is os.RemoveAll for trees that may hold immutable files.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() && !d.IsDir() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0)
	})
	return errors.Join(walkErr, os.RemoveAll(path))
}

// detachLoops frees loop devices that are backed by a file below dir. Those
// that were mounted with autoclear went with the bed's mounts already.
func detachLoops(dir string) error {
	bound, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil || len(bound) == 0 {
		return err
	}
	files := map[uint64]bool{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		files[st.Ino] = true
		return nil
	})
	if err != nil {
		return err
	}
	var own unix.Stat_t
	if err := unix.Lstat(dir, &own); err != nil {
		return err
	}
	for _, path := range bound {
		name := strings.Split(path, "/")[3]
		if err := detachLoop("/dev/"+name, own.Dev, files); err != nil {
			return fmt.Errorf("detach %s: %w", name, err)
		}
	}
	return nil
}

func detachLoop(node string, dev uint64, files map[uint64]bool) error {
	f, err := os.Open(node)
	if err != nil {
		return nil // gone since
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return nil // freed since
	}
	// A file reached through an overlay has an anonymous device number.
	if !files[info.Inode] || info.Device != dev && unix.Major(info.Device) != 0 {
		return nil
	}
	return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
}
