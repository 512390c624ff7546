// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// A container with a user namespace of its own is made by a process that is
// nobody on the host from its first moment on. The launcher gives what takes
// more: higher limits, and mounts whose files' owners are mapped.

// What init says to the launcher.
const (
	// Made: the container is made.
	Made = 0
	// Sources: the sources of bind mounts are asked for. Their number follows,
	// and then the place of each among the plan's mounts, all of four bytes. The
	// answer is a byte for each, with a descriptor.
	Sources = 1
)

// unshare leaves the host's namespaces for the container's. Init has been cloned
// into those of users and of PIDs; what belongs to the others, such as files in
// /proc and /sys, is the namespace's root's only if that is somebody when they
// are made.
func unshare(namespaces uint64) error {
	if err := unix.Unshare(int(namespaces &^ (unix.CLONE_NEWUSER | unix.CLONE_NEWPID))); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	return nil
}

// sources asks the launcher for what init has no right to open.
func (s socket) sources(p *plan.Plan) (map[*plan.Mount]int, error) {
	if !p.UserNS() {
		return nil, nil
	}
	var asked []*plan.Mount
	message := []byte{Sources, 0, 0, 0, 0}
	for i := range p.Mounts {
		m := &p.Mounts[i]
		var st unix.Stat_t
		if m.Bind() && (m.IDMap != plan.IDMapNone || unix.Stat(m.Source, &st) != nil) {
			asked = append(asked, m)
			message = binary.LittleEndian.AppendUint32(message, uint32(i))
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	binary.LittleEndian.PutUint32(message[1:], uint32(len(asked)))
	if _, err := unix.Write(int(s), message); err != nil {
		return nil, errAbandoned
	}
	given := map[*plan.Mount]int{}
	for _, m := range asked {
		fd, err := s.descriptor()
		if err != nil {
			return nil, err
		}
		given[m] = fd
	}
	return given, nil
}

// descriptor receives one.
func (s socket) descriptor() (int, error) {
	data, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	for {
		n, m, _, _, err := unix.Recvmsg(int(s), data, rights, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return -1, errAbandoned
		}
		list, err := unix.ParseSocketControlMessage(rights[:m])
		if err != nil || len(list) != 1 {
			return -1, errors.New("the launcher sent no descriptor")
		}
		fds, err := unix.ParseUnixRights(&list[0])
		if err != nil || len(fds) != 1 {
			return -1, errors.New("the launcher sent no descriptor")
		}
		return fds[0], nil
	}
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
