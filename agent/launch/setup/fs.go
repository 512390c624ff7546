// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// fileSystem is the kernel's name of a new file system.
func fileSystem(m *plan.Mount) string {
	if m.Type == "cgroup" {
		return "cgroup2"
	}
	return m.Type
}

// namespaceOf is the namespace that a file system shows.
var namespaceOf = map[string]uint64{
	"cgroup": unix.CLONE_NEWCGROUP, "mqueue": unix.CLONE_NEWIPC, "proc": unix.CLONE_NEWPID, "sysfs": unix.CLONE_NEWNET,
}

// create makes the mount of a file system that init has opened, with options as
// mount(2) takes them.
func (r *root) create(fs int, m *plan.Mount, data string) (int, error) {
	// This thread could, but it must not: root of a user namespace may not mount
	// what belongs to the host.
	if ns := namespaceOf[m.Type]; r.plan.UserNS() && ns&^r.plan.Namespaces != 0 {
		return -1, unix.EPERM
	}
	if m.Source != "" {
		if err := unix.FsconfigSetString(fs, "source", m.Source); err != nil {
			return -1, err
		}
	}
	flags := m.Flags
	if writable(m) {
		flags &^= unix.MS_RDONLY // until everything is in it
	}
	for _, f := range superFlags {
		if flags&f.bit != 0 {
			if err := unix.FsconfigSetFlag(fs, f.name); err != nil {
				return -1, err
			}
		}
	}
	for _, option := range split(data) {
		if err := r.option(fs, option); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes(flags))
}

// option sets one of a file system's. An ID in it is the container's, and this
// thread's are the host's.
func (r *root) option(fs int, option string) error {
	key, value, ok := strings.Cut(option, "=")
	if !ok {
		return unix.FsconfigSetFlag(fs, key)
	}
	ids := map[string][]plan.IDMap{"uid": r.plan.UIDs, "gid": r.plan.GIDs}[key]
	if id, err := strconv.ParseUint(value, 10, 32); err == nil && len(ids) > 0 {
		host := outside(id, ids)
		if host == nobody {
			return unix.EINVAL
		}
		value = strconv.Itoa(host)
	}
	return unix.FsconfigSetString(fs, key, value)
}

// superFlags are the flags of mount(2) that are the file system's.
var superFlags = []struct {
	bit  uint64
	name string
}{
	{unix.MS_RDONLY, "ro"},
	{unix.MS_SYNCHRONOUS, "sync"},
	{unix.MS_DIRSYNC, "dirsync"},
	{unix.MS_MANDLOCK, "mand"},
	{unix.MS_LAZYTIME, "lazytime"},
}

// attributes are the flags that are the mount's.
func attributes(flags uint64) (attrs int) {
	for _, f := range []struct{ ms, attr uint64 }{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY},
		{unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
		{unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
	} {
		if flags&f.ms != 0 {
			attrs |= int(f.attr)
		}
	}
	switch {
	case flags&unix.MS_STRICTATIME != 0:
		attrs |= unix.MOUNT_ATTR_STRICTATIME
	case flags&unix.MS_NOATIME != 0:
		attrs |= unix.MOUNT_ATTR_NOATIME
	}
	return attrs
}

// split takes the options of a file system apart. A list of memory nodes has
// commas as well.
func split(data string) (options []string) {
	for option := range strings.SplitSeq(data, ",") {
		switch last := len(options) - 1; {
		case option == "":
		case last >= 0 && option[0] >= '0' && option[0] <= '9':
			options[last] += "," + option
		default:
			options = append(options, option)
		}
	}
	return options
}

// covers reports whether a mount would cover another one of the same file system,
// which mount(2) refuses.
func covers(tree, target int) bool {
	var a, b unix.Statx_t
	return unix.Statx(tree, "", unix.AT_EMPTY_PATH, 0, &a) == nil && unix.Statx(target, "", unix.AT_EMPTY_PATH, 0, &b) == nil &&
		a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor && b.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
