// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// setupDev makes the device nodes and the usual links in /dev.
func (r *root) setupDev(devices []plan.Device) error {
	for i := range devices {
		if err := r.device(&devices[i]); err != nil {
			return fmt.Errorf("make device %s: %w", devices[i].Path, err)
		}
	}
	dev, err := r.mkdir("/dev")
	if err != nil {
		return fmt.Errorf("open /dev: %w", err)
	}
	defer func() { _ = unix.Close(dev) }()
	if err := unix.Unlinkat(dev, "ptmx", 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("make /dev/ptmx: %w", err)
	}
	if err := unix.Symlinkat("pts/ptmx", dev, "ptmx"); err != nil {
		return fmt.Errorf("make /dev/ptmx: %w", err)
	}
	for _, link := range [][2]string{
		{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"},
		{"/proc/kcore", "core"},
	} {
		if link[1] == "core" && unix.Access(link[0], unix.F_OK) != nil {
			continue // a kernel without it
		}
		if err := unix.Symlinkat(link[0], dev, link[1]); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make /dev/%s: %w", link[1], err)
		}
	}
	return nil
}

// device makes one node. What the container has there already stays.
func (r *root) device(d *plan.Device) error {
	dir, err := r.mkdir(path.Dir(d.Path))
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	name, number := path.Base(d.Path), unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	if r.plan.UserNS() {
		return r.bindDevice(dir, name, d) // whatever it may make by itself
	}
	err = unix.Mknodat(dir, name, uint32(d.Mode), int(number))
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EPERM):
		return r.bindDevice(dir, name, d)
	case err != nil:
		return err
	}
	node, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(node) }()
	var st unix.Stat_t
	if err := unix.Fstat(node, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != uint32(d.Mode)&unix.S_IFMT || st.Rdev != number && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return errors.New("something else is there")
	}
	if d.UID|d.GID == 0 {
		return nil // and the umask is 0
	}
	if err := unix.Fchownat(node, "", int(d.UID), int(d.GID), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Fchmodat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", node), uint32(d.Mode)&0o7777, 0)
}

// bindDevice shows the host's node where none may be made.
func (r *root) bindDevice(dir int, name string, d *plan.Device) error {
	file, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(file) }()
	tree, err := unix.OpenTree(unix.AT_FDCWD, d.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	return attach(tree, file)
}

// devNull opens the container's /dev/null, and makes sure that it is one.
func devNull(flags int) (int, error) {
	fd, err := unix.Open("/dev/null", flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/dev/null", Err: err}
	}
	if !isDevNull(fd) {
		_ = unix.Close(fd)
		return -1, errors.New("the container's /dev/null is something else")
	}
	return fd, nil
}

func isDevNull(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}
