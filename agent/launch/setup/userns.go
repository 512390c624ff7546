// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// mapOwners makes the files of a mount belong to the same users inside as outside.
// This thread is in the mount namespace of the container, whose owner is the
// user namespace.
func mapOwners(tree int, all bool) error {
	ns, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(ns) }()
	users, err := unix.IoctlRetInt(ns, unix.NS_GET_USERNS)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(users) }()
	how := uint(unix.AT_EMPTY_PATH)
	if all {
		how |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(tree, "", how, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users)})
}

// The part of a mount's attributes that says when times of access are kept.
const timeAttributes = unix.MOUNT_ATTR__ATIME | unix.MOUNT_ATTR_NODIRATIME

// setUnlocked sets the attributes of a bind mount some of which the host has
// locked. Those stay, unless the configuration says that they must not.
func setUnlocked(tree int, m *plan.Mount) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(tree, &st); err != nil {
		return err
	}
	flags, attrs := flagsOf(uint64(st.Flags))
	if flags&m.Off != 0 || m.Clear&unix.MOUNT_ATTR__ATIME != 0 && m.Set&timeAttributes != attrs&timeAttributes {
		return fmt.Errorf("the host's options of %s cannot be taken away: %w", m.Source, unix.EPERM)
	}
	keep := attrs &^ timeAttributes
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set: (m.Set | keep) &^ timeAttributes, Attr_clr: m.Clear &^ (keep | timeAttributes),
	})
}

// flagsOf translates the flags of a mounted file system that can be locked to
// those of mount(2) and of mount_setattr(2).
func flagsOf(statfs uint64) (flags, attrs uint64) {
	for _, f := range []struct{ st, ms, attr uint64 }{
		{unix.ST_RDONLY, unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY},
		{unix.ST_NOSUID, unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.ST_NODEV, unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.ST_NOEXEC, unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.ST_NOATIME, unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME},
		{unix.ST_NODIRATIME, unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
		{unix.ST_RELATIME, unix.MS_RELATIME, unix.MOUNT_ATTR_RELATIME},
	} {
		if statfs&f.st != 0 {
			flags |= f.ms
			attrs |= f.attr
		}
	}
	if statfs&(unix.ST_NOATIME|unix.ST_RELATIME) == 0 {
		flags |= unix.MS_STRICTATIME
		attrs |= unix.MOUNT_ATTR_STRICTATIME
	}
	return flags, attrs
}
