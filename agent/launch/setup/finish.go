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

// finish completes the file system from inside.
func finish(p *plan.Plan) error {
	if err := os.MkdirAll(p.Cwd, 0o755); err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	for i := range p.Mounts {
		m := &p.Mounts[i]
		if m.Bind() || !writable(m) {
			continue
		}
		flags := uintptr(m.Flags) | unix.MS_REMOUNT | unix.MS_BIND
		if err := unix.Mount("", m.Target, "", flags, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", m.Target, err)
		}
	}
	if p.ReadonlyRoot {
		if err := readonlyRoot(); err != nil {
			return fmt.Errorf("make / read-only: %w", err)
		}
	}
	return nil
}

func readonlyRoot() error {
	const flags = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY
	err := unix.Mount("", "/", "", flags, "")
	var st unix.Statfs_t
	if !errors.Is(err, unix.EPERM) || unix.Statfs("/", &st) != nil {
		return err
	}
	// A user namespace cannot take away what the mount has had on the host.
	return unix.Mount("", "/", "", flags|uintptr(st.Flags), "")
}

func setNames(p *plan.Plan) error {
	if p.Hostname != "" {
		if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
	}
	if p.Domainname != "" {
		if err := unix.Setdomainname([]byte(p.Domainname)); err != nil {
			return fmt.Errorf("set domain name: %w", err)
		}
	}
	return nil
}

// setSysctls writes kernel parameters through a proc of its own: the
// container's may be missing, read-only or covered.
func setSysctls(all []plan.Sysctl) error {
	if len(all) == 0 {
		return nil
	}
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("set kernel parameters: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("set kernel parameters: %w", err)
	}
	proc, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set kernel parameters: %w", err)
	}
	defer func() { _ = unix.Close(proc) }()
	for _, s := range all {
		if err := writeFile(proc, "sys/"+s.Path, s.Value); err != nil {
			return fmt.Errorf("set kernel parameter %s = %q: %w", s.Path, s.Value, err)
		}
	}
	return nil
}

// cover takes away what the payload must not write or see.
func cover(p *plan.Plan) error {
	for _, name := range p.Readonly {
		if err := readonly(name); err != nil {
			return fmt.Errorf("make %s read-only: %w", name, err)
		}
	}
	return mask(p.Masked)
}

// readonly covers a path with itself, read-only. A path that is not there needs
// no cover.
func readonly(name string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
}

// mask hides paths: a file behind /dev/null, a directory behind an empty one,
// which all of them share.
func mask(paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	null, err := devNull(unix.O_PATH)
	if err != nil {
		return fmt.Errorf("mask paths: %w", err)
	}
	defer func() { _ = unix.Close(null) }()
	empty := -1
	defer func() {
		if empty >= 0 {
			_ = unix.Close(empty)
		}
	}()
	done := map[string]bool{}
	for _, name := range paths {
		if done[path.Clean(name)] {
			continue
		}
		done[path.Clean(name)] = true
		err := maskOne(name, null, &empty)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mask %s: %w", name, err)
		}
	}
	return nil
}

func maskOne(name string, null int, empty *int) error {
	target, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(target) }()
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return err
	}
	cover := null
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if cover = *empty; cover < 0 {
			// The first directory is masked by the mount itself.
			if *empty, err = emptyDir(); err != nil {
				return err
			}
			return attach(*empty, target)
		}
	}
	tree, err := unix.OpenTree(cover, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	return attach(tree, target)
}

// emptyDir is a read-only tmpfs in which there is no room for anything, not yet
// mounted.
func emptyDir() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(fs) }()
	for _, o := range [][2]string{{"source", "tmpfs"}, {"nr_blocks", "1"}, {"nr_inodes", "1"}} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
}
