// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fsContext is a file system under construction (fsopen(2)).
type fsContext struct{ fd int }

func fsopen(fstype string) (*fsContext, error) {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	return &fsContext{fd}, nil
}

func (c *fsContext) close() { _ = unix.Close(c.fd) }

func (c *fsContext) set(key, value string) error {
	return c.check(key, unix.FsconfigSetString(c.fd, key, value))
}

func (c *fsContext) setFD(key string, f *os.File) error {
	return c.check(key, unix.FsconfigSetFd(c.fd, key, int(f.Fd())))
}

// create makes the superblock and a detached mount of it.
func (c *fsContext) create() (*os.File, error) {
	if err := c.check("read-only", unix.FsconfigSetFlag(c.fd, "ro")); err != nil {
		return nil, err
	}
	if err := c.check("create", unix.FsconfigCreate(c.fd)); err != nil {
		return nil, err
	}
	fd, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, fmt.Errorf("fsmount: %w", err)
	}
	return os.NewFile(uintptr(fd), "mount"), nil
}

// check adds the kernel's own words, which say more than the error number.
func (c *fsContext) check(what string, err error) error {
	if err == nil {
		return nil
	}
	var said string
	buf := make([]byte, 1024)
	for {
		n, rerr := unix.Read(c.fd, buf)
		if rerr != nil || n <= 0 {
			break
		}
		said += ": " + string(bytes.TrimSpace(buf[:n]))
	}
	return fmt.Errorf("%s: %w%s", what, err, said)
}

// mountErofs mounts a block device or an image file, detached.
func mountErofs(source string) (*os.File, error) {
	c, err := fsopen("erofs")
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.set("source", source); err != nil {
		return nil, err
	}
	m, err := c.create()
	if err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	return m, nil
}

// overlay puts the metadata layer over the objects. Newer kernels take
// descriptors of detached mounts (6.15); older ones want the layer attached
// somewhere and named by a path, and before lowerdir+ (6.7) all in one option.
func overlay(meta, objects *os.File, source string, verity bool) (*os.File, error) {
	m, err := overlayWith(source, verity, func(c *fsContext) error {
		if err := c.setFD("lowerdir+", meta); err != nil {
			return err
		}
		return c.setFD("datadir+", objects)
	})
	if err == nil || !isOld(err) {
		return m, err
	}
	dir, detach, aerr := attachPrivately(meta)
	if aerr != nil {
		return nil, aerr
	}
	defer detach()
	m, err = overlayWith(source, verity, func(c *fsContext) error {
		if err := c.set("lowerdir+", dir); err != nil {
			return err
		}
		return c.set("datadir+", procPath(objects))
	})
	if err == nil || !isOld(err) {
		return m, err
	}
	return overlayWith(source, verity, func(c *fsContext) error {
		return c.set("lowerdir", dir+"::"+procPath(objects))
	})
}

func isOld(err error) bool {
	return errors.Is(err, unix.EBADF) || errors.Is(err, unix.EINVAL)
}

func overlayWith(source string, verity bool, layers func(*fsContext) error) (*os.File, error) {
	c, err := fsopen("overlay")
	if err != nil {
		return nil, err
	}
	defer c.close()
	options := [][2]string{{"source", source}, {"metacopy", "on"}, {"redirect_dir", "on"}}
	if verity {
		options = append(options, [2]string{"verity", "require"})
	}
	for _, o := range options {
		if err := c.set(o[0], o[1]); err != nil {
			return nil, err
		}
	}
	if err := layers(c); err != nil {
		return nil, err
	}
	return c.create()
}

// attachPrivately mounts m on a temporary directory that is gone with detach.
// A layer of an overlay stays usable without its mount point.
func attachPrivately(m *os.File) (dir string, detach func(), err error) {
	base := "/run"
	if _, err := os.Stat(base); err != nil {
		base = os.TempDir()
	}
	if dir, err = os.MkdirTemp(base, ".atomic-mount-"); err != nil {
		return "", nil, fmt.Errorf("temporary mount point: %w", err)
	}
	if err := unix.MoveMount(int(m.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		_ = os.Remove(dir) // an empty directory in /run is gone at boot
		return "", nil, fmt.Errorf("temporary mount point: %w", err)
	}
	return dir, func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH) // nothing else is to be done about it
		_ = os.Remove(dir)
	}, nil
}
