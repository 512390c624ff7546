// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/agent/launch/setup"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

// grant does for init what root of a user namespace may not: raise limits, and
// make itself a less likely victim when memory runs out.
func (p *plannedInit) grant(pl *plan.Plan) error {
	if pl.OOMScoreAdj != nil {
		if err := p.setOOMScore(*pl.OOMScoreAdj); err != nil {
			return fmt.Errorf("set OOM score: %w", err)
		}
	}
	if !pl.UserNS() {
		return nil
	}
	for _, r := range pl.Rlimits {
		var old unix.Rlimit
		if err := prlimit(p.pid, r.Kind, nil, &old); err != nil {
			return fmt.Errorf("read limit %d: %w", r.Kind, err)
		}
		// Init sets the limits itself, when they cannot harm it any more.
		if r.Hard <= old.Max {
			continue
		}
		if err := prlimit(p.pid, r.Kind, &unix.Rlimit{Cur: old.Cur, Max: r.Hard}, nil); err != nil {
			return fmt.Errorf("set limit %d: %w", r.Kind, err)
		}
	}
	return nil
}

// setOOMScore writes init's score. The directory is that of one process for
// ever, and it is init's if init lives after it was opened.
func (p *plannedInit) setOOMScore(score int64) error {
	dir, err := unix.Open("/proc/"+strconv.Itoa(p.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	if p.gone() {
		return unix.ESRCH
	}
	fd, err := unix.Openat(dir, "oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Write(fd, strconv.AppendInt(nil, score, 10))
	return err
}

// prlimit is the system call alone. The one of package unix gives the Go runtime
// another idea of this process's own limits.
func prlimit(pid int, kind uint64, set, old *unix.Rlimit) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PRLIMIT64, uintptr(pid), uintptr(kind), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// idMappings are a plan's mapped IDs for the clone of init.
func idMappings(from []plan.IDMap) (to []syscall.SysProcIDMap) {
	for _, m := range from {
		to = append(to, syscall.SysProcIDMap{ContainerID: int(m.Inside), HostID: int(m.Outside), Size: int(m.Count)})
	}
	return to
}

// maxSources bounds what init may ask for at once.
const maxSources = 1 << 14

// giveSources answers init's question for the sources of bind mounts.
func (p *plannedInit) giveSources(pl *plan.Plan) error {
	number := make([]byte, 4)
	if err := p.read(number); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(number)
	if n > maxSources {
		return errors.New("init asks for too much")
	}
	list := make([]*plan.Mount, n)
	for i := range list {
		if err := p.read(number); err != nil {
			return err
		}
		place := binary.LittleEndian.Uint32(number)
		if uint64(place) >= uint64(len(pl.Mounts)) {
			return errors.New("init asks for what is not in its plan")
		}
		list[i] = &pl.Mounts[place]
	}
	given := make(chan error)
	go func() {
		// For good: this thread leaves the host's mount namespace.
		runtime.LockOSThread()
		given <- p.giveFromInside(list)
	}()
	return <-given
}

// giveFromInside opens sources in init's mount namespace, with the rights of the
// host's root: a mount from there has the host's options, locked, and is no peer
// of the host's.
func (p *plannedInit) giveFromInside(list []*plan.Mount) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("join init: %w", err)
	}
	if err := unix.Setns(p.fd, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("join init: %w", err)
	}
	ns, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("join init: %w", err)
	}
	defer func() { _ = unix.Close(ns) }()
	users, err := unix.IoctlRetInt(ns, unix.NS_GET_USERNS)
	if err != nil {
		return fmt.Errorf("find init's user namespace: %w", err)
	}
	defer func() { _ = unix.Close(users) }()
	for _, m := range list {
		if err := p.giveSource(m, users); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Source, m.Target, err)
		}
	}
	return nil
}

// giveSource sends what a mount shows: a place in the file system, or a mount
// whose files belong to the same users inside as outside.
func (p *plannedInit) giveSource(m *plan.Mount, users int) error {
	flags := uint(unix.OPEN_TREE_CLOEXEC)
	if m.IDMap != plan.IDMapNone {
		flags |= unix.OPEN_TREE_CLONE
		if m.Flags&unix.MS_REC != 0 {
			flags |= unix.AT_RECURSIVE
		}
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if m.IDMap != plan.IDMapNone {
		how := uint(unix.AT_EMPTY_PATH)
		if m.IDMap == plan.IDMapRecursive {
			how |= unix.AT_RECURSIVE
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users)}
		if err := unix.MountSetattr(fd, "", how, &attr); err != nil {
			return fmt.Errorf("map the owners of its files: %w", err)
		}
	}
	return unix.Sendmsg(p.socket, []byte{setup.Sources}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
}
