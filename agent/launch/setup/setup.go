// SPDX-License-Identifier: Apache-2.0

// Package setup makes a container by a plan, up to the moment at which init
// becomes the payload.
//
// Clone makes init, in its namespaces and as a child of systemd. All that can be
// done by somebody else is done by a thread of this process that joins those
// namespaces: it mounts, writes and looks around, in plain Go. What belongs to a
// process, such as its user, its capabilities and the seccomp filter, init gives
// itself: it makes the system calls that it is told (agent/atomic-enter). Until
// it is released nothing of the image has run and nothing else is in the
// container's namespaces.
//
// Whatever the image could have prepared, such as a symbolic link or a volume
// that others write to, is reached through descriptors that the kernel resolved
// inside the container's root (openat2).
package setup

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// Container is what is made.
type Container struct {
	Name   string
	Root   string // where the root file system is mounted
	Cgroup string // the directory of the container's own
	Plan   *plan.Plan
}

// Make makes the container. Afterwards init waits for its release.
func (i *Init) Make(c Container) error {
	made := make(chan error)
	go func() {
		// For good: the thread leaves the host's namespaces, and ends with this
		// function.
		runtime.LockOSThread()
		made <- i.make(c)
	}()
	return <-made
}

func (i *Init) make(c Container) error {
	p := c.Plan
	if err := i.grant(p); err != nil {
		return err
	}
	opened, err := i.open(c.Name, p)
	if err != nil {
		return err
	}
	if err := i.join(p); err != nil {
		return err
	}
	if p.Loopback {
		if err := loopback(); err != nil {
			return err
		}
	}
	unix.Umask(0) // the modes of files are the plan's own
	if err := makeRoot(c, opened); err != nil {
		return err
	}
	if err := finish(p); err != nil {
		return err
	}
	if err := setNames(p); err != nil {
		return err
	}
	if err := setSysctls(p.Sysctls); err != nil {
		return err
	}
	if err := cover(p); err != nil {
		return err
	}
	env, err := environment(p.Env, p.UID)
	if err != nil {
		return err
	}
	if err := i.become(p); err != nil {
		return err
	}
	program, err := exec.LookPath(p.Args[0])
	if err != nil {
		return err
	}
	i.exec = i.execute(program, env, p)
	return nil
}

// makeRoot makes the root file system with all that is mounted in it, and makes
// it that of init and of this thread.
func makeRoot(c Container, opened map[*plan.Mount]int) error {
	p := c.Plan
	cgroup := c.Cgroup
	if p.Namespaces&unix.CLONE_NEWCGROUP == 0 && !p.Joins(unix.CLONE_NEWCGROUP) {
		cgroup = "/sys/fs/cgroup"
	}
	root, err := openRoot(c.Root, cgroup, p)
	if err != nil {
		return err
	}
	for k := range p.Mounts {
		m := &p.Mounts[k]
		if err := root.mount(m, opened[m]); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Source, m.Target, err)
		}
	}
	if p.SetupDev {
		if err := root.setupDev(p.Devices); err != nil {
			return err
		}
	}
	return root.pivot()
}

// open has init leave the host, as far as it has not yet, and open the plan's new
// file systems: they belong to the namespaces of whoever opens them.
func (i *Init) open(name string, p *plan.Plan) (map[*plan.Mount]int, error) {
	var c calls
	// Its program, and whatever else this process was given by mistake.
	c.add("close descriptors", unix.SYS_CLOSE_RANGE, uintptr(i.own()+1), closeAll, 0)
	if p.UserNS() {
		c.add("make namespaces", unix.SYS_UNSHARE, uintptr(p.Namespaces&^(unix.CLONE_NEWUSER|unix.CLONE_NEWPID)))
	}
	newKeyring(&c, "_ses."+name, p.UserNS())
	var mounts []*plan.Mount
	for k := range p.Mounts {
		if m := &p.Mounts[k]; !m.Bind() {
			mounts = append(mounts, m)
			c.add(fmt.Sprintf("mount %s on %s", m.Source, m.Target), unix.SYS_FSOPEN, c.text(fileSystem(m)), unix.FSOPEN_CLOEXEC)
		}
	}
	if len(mounts) > maxFiles {
		return nil, fmt.Errorf("more than %d new file systems", maxFiles)
	}
	if err := i.begin(&c, exitSetup); err != nil {
		return nil, err
	}
	if len(mounts) == 0 {
		return nil, i.finish(&c)
	}
	give := i.giveBack(len(mounts))
	if err := i.begin(give, exitSetup); err != nil {
		return nil, err
	}
	if err := i.finish(&c); err != nil {
		return nil, err
	}
	n, fds, err := i.receive(make([]byte, 1))
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, errGone
	case len(fds) != len(mounts):
		return nil, errors.New("init has not opened what it was told")
	}
	opened := map[*plan.Mount]int{}
	for k, m := range mounts {
		opened[m] = fds[k]
	}
	return opened, i.finish(give)
}

// giveBack has init send the descriptors that it has opened, n of them, and close
// them.
func (i *Init) giveBack(n int) *calls {
	var c calls
	fds := make([]int, n)
	for k := range fds {
		fds[k] = i.own() + 1 + k
	}
	rights := unix.UnixRights(fds...)
	message := c.words(0, 0, c.words(c.text("x"), 1), 1, c.memory(rights), uintptr(len(rights)), 0) // struct msghdr
	c.add("send descriptors", unix.SYS_SENDMSG, uintptr(i.own()), message, unix.MSG_NOSIGNAL)
	c.add("close descriptors", unix.SYS_CLOSE_RANGE, uintptr(i.own()+1), closeAll, 0)
	return &c
}

// closeAll is the end of a range that has none.
const closeAll = 1<<32 - 1

// join takes this thread to the container. In a user namespace it makes files as
// the container's root, but keeps the rights of the host's: it may open what that
// may not. Mounts that come from the host keep their options, whoever asks.
func (i *Init) join(p *plan.Plan) error {
	const others = unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("join init: %w", err)
	}
	if err := unix.Setns(i.FD, int(p.Namespaces&others)); err != nil {
		return fmt.Errorf("join init: %w", err)
	}
	if !p.UserNS() {
		return nil
	}
	all, err := permitted()
	if err != nil {
		return fmt.Errorf("join init: %w", err)
	}
	uid, gid := outside(0, p.UIDs), outside(0, p.GIDs)
	for _, c := range []call{
		{number: unix.SYS_PRCTL, args: [6]uintptr{unix.PR_SET_KEEPCAPS, 1}},
		{number: unix.SYS_SETRESGID, args: [6]uintptr{uintptr(gid), uintptr(gid), uintptr(gid)}},
		{number: unix.SYS_SETRESUID, args: [6]uintptr{uintptr(uid), uintptr(uid), uintptr(uid)}},
	} {
		if _, _, errno := unix.RawSyscall(c.number, c.args[0], c.args[1], c.args[2]); errno != 0 {
			return fmt.Errorf("join init: %w", errno)
		}
	}
	if err := setEffective(all); err != nil {
		return fmt.Errorf("join init: %w", err)
	}
	return nil
}
