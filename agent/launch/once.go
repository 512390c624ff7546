// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// consoleSocket is where whoever runs a container once, on a terminal, waits
// for the container's own.
const consoleSocket = "console"

// console connects to that.
func (d *deployment) console() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	// The working directory is the deployment; its path may be too long.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: consoleSocket}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open terminal: nobody waits for one: %w", err)
	}
	return os.NewFile(uintptr(fd), consoleSocket), nil
}

// removeOnce removes the deployment of a container that is run without being
// installed, if this is one.
func (l Launcher) removeOnce(name string) error {
	dir := l.Host.Once(name)
	rootfs := filepath.Join(dir, "rootfs")
	err := unix.Unmount(rootfs, unix.UMOUNT_NOFOLLOW)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.RemoveAll(dir)
	case errors.Is(err, unix.EBUSY):
		err = unix.Unmount(rootfs, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) { // not mounted
		return fmt.Errorf("unmount %s: %w", rootfs, err)
	}
	return os.RemoveAll(dir)
}
