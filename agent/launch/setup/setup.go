// SPDX-License-Identifier: Apache-2.0

// Package setup is a container's init up to the moment at which it becomes the
// payload: it executes a plan.
//
// The launcher has cloned the process into its namespaces already, as a child
// of systemd. Run makes the container around it, says that it is ready, waits
// for its release and executes the payload. Until then nothing of the image has
// run and nothing else is in the container's namespaces.
//
// All of it happens on the main thread: credentials, capabilities and the
// seccomp filter belong to a thread, and execve keeps those of the one that
// calls it. Whatever the image could have prepared, such as a symbolic link or
// a volume that others write to, is reached through descriptors that the kernel
// resolved inside the container's root (openat2).
package setup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"unsafe" // and for go:linkname

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// ExitSetup is init's exit status when the container could not be made,
// ExitExec when the payload could not be executed after all.
const (
	ExitSetup = 1
	ExitExec  = 255
)

// Order is what init is told in its arguments; the rest comes through a socket.
type Order struct {
	Name string // of the container
	// Passed is the number of descriptors from 3 on that are the payload's. The
	// socket to the launcher follows them, and then the program itself.
	Passed int
}

// Program is the name by which init is executed.
func (o Order) Program() string { return "/proc/self/fd/" + strconv.Itoa(4+o.Passed) }

// Args are the arguments that carry the order.
func (o Order) Args() []string { return []string{"init", o.Name, strconv.Itoa(o.Passed)} }

// ParseOrder reads what Args wrote.
func ParseOrder(args []string) (o Order, err error) {
	if len(args) != 3 || args[0] != "init" {
		return o, errors.New("not an order")
	}
	o.Name = args[1]
	o.Passed, err = strconv.Atoi(args[2])
	if err == nil && o.Passed < 0 {
		err = errors.New("a negative number of descriptors")
	}
	return o, err
}

// errAbandoned means that the launcher is gone or gave up, and has said why.
var errAbandoned = errors.New("the launcher gave up")

// Main executes an order and does not return. It must run on the main thread.
func Main(o Order) {
	runtime.LockOSThread()
	status, err := Run(o)
	if !errors.Is(err, errAbandoned) {
		fmt.Fprintf(os.Stderr, "atomic: error: start container %q: %v\n", o.Name, err)
	}
	os.Exit(status)
}

// Run makes the container and becomes its payload. It returns only on failure,
// with the exit status.
func Run(o Order) (status int, err error) {
	launcher := socket(3 + o.Passed)
	_ = unix.Close(4 + o.Passed)
	dir, cgroup, p, err := launcher.job()
	if err != nil {
		return ExitSetup, err
	}

	if p.UserNS() {
		if err := unshare(p.Namespaces); err != nil {
			return ExitSetup, err
		}
	}
	if err := newKeyring("_ses."+o.Name, p.UserNS()); err != nil {
		return ExitSetup, err
	}
	if p.Loopback {
		if err := loopback(); err != nil {
			return ExitSetup, err
		}
	}

	// The file system.
	unix.Umask(0)
	if p.Namespaces&unix.CLONE_NEWCGROUP == 0 {
		cgroup = "/sys/fs/cgroup"
	}
	root, err := openRoot(dir, cgroup, p)
	if err != nil {
		return ExitSetup, err
	}
	if root.given, err = launcher.sources(p); err != nil {
		return ExitSetup, err
	}
	for i := range p.Mounts {
		if err := root.mount(&p.Mounts[i]); err != nil {
			return ExitSetup, fmt.Errorf("mount %s on %s: %w", p.Mounts[i].Source, p.Mounts[i].Target, err)
		}
	}
	if p.SetupDev {
		if err := root.setupDev(p.Devices); err != nil {
			return ExitSetup, err
		}
	}
	if err := root.pivot(); err != nil {
		return ExitSetup, err
	}
	if err := finish(p); err != nil {
		return ExitSetup, err
	}

	// Names, kernel parameters and what the payload must not see.
	if err := setNames(p); err != nil {
		return ExitSetup, err
	}
	if err := setSysctls(p.Sysctls); err != nil {
		return ExitSetup, err
	}
	for _, path := range p.Readonly {
		if err := readonly(path); err != nil {
			return ExitSetup, fmt.Errorf("make %s read-only: %w", path, err)
		}
	}
	if err := mask(p.Masked); err != nil {
		return ExitSetup, err
	}

	// The process. Without no_new_privs a filter needs a capability, so it is
	// loaded before they are dropped; with it, as late as can be.
	if err := setRlimits(p.Rlimits); err != nil {
		return ExitSetup, err
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return ExitSetup, fmt.Errorf("set no_new_privs: %w", err)
		}
	} else if err := filter(p); err != nil {
		return ExitSetup, err
	}
	env, err := environment(p.Env, p.UID)
	if err != nil {
		return ExitSetup, err
	}
	if err := become(p); err != nil {
		return ExitSetup, err
	}
	program, err := exec.LookPath(p.Args[0])
	if err != nil {
		return ExitSetup, err
	}

	// The container is made. Nothing of the image runs before the release.
	if err := launcher.await(); err != nil {
		return ExitSetup, err
	}
	// Nothing of the host stays open but the socket, which execve closes: that
	// is how the launcher learns that the payload runs.
	if err := launcher.closeOthers(3 + o.Passed); err != nil {
		return ExitExec, err
	}
	if p.NoNewPrivileges {
		if err := filter(p); err != nil {
			return ExitExec, err
		}
	}
	return ExitExec, fmt.Errorf("execute %s: %w", program, syscall.Exec(program, p.Args, env))
}

// socket is init's end of the connection to the launcher: a job comes in, one
// byte goes out, one byte comes in. In between, init of a user namespace may ask
// for mounts.
type socket int

// Job is what init is to do as the socket carries it: where the root file
// system is mounted, the directory of the container's cgroup, and the plan, each
// with its length before it.
func Job(root, cgroup string, p *plan.Plan) []byte {
	var data []byte
	for _, part := range [][]byte{[]byte(root), []byte(cgroup), p.Encode()} {
		data = binary.LittleEndian.AppendUint32(data, uint32(len(part)))
		data = append(data, part...)
	}
	return data
}

func (s socket) job() (root, cgroup string, p *plan.Plan, err error) {
	if _, err := unix.FcntlInt(uintptr(s), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return "", "", nil, errors.New("there is no launcher")
	}
	var parts [3][]byte
	for i := range parts {
		if parts[i], err = s.part(); err != nil {
			return "", "", nil, err
		}
	}
	p, err = plan.Parse(parts[2])
	return string(parts[0]), string(parts[1]), p, err
}

func (s socket) part() ([]byte, error) {
	size := make([]byte, 4)
	if err := s.read(size); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(size)
	if n > plan.MaxSize {
		return nil, errors.New("the plan is too large")
	}
	data := make([]byte, n)
	return data, s.read(data)
}

func (s socket) read(buf []byte) error {
	for len(buf) > 0 {
		n, err := unix.Read(int(s), buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			return errAbandoned
		}
		buf = buf[n:]
	}
	return nil
}

// await says that the container is made and waits for its release.
func (s socket) await() error {
	if _, err := unix.Write(int(s), []byte{Made}); err != nil {
		return errAbandoned
	}
	return s.read(make([]byte, 1))
}

// closeOthers closes all descriptors from first on, but the socket and those by
// which the Go runtime waits: a payload whose own name leads through one of the
// host's must not find it.
func (s socket) closeOthers(first int) error {
	for fd := first; ; fd++ {
		if fd > int(s)+maxRuntime {
			if err := unix.CloseRange(uint(fd), ^uint(0)>>32, 0); err != nil {
				return fmt.Errorf("close descriptors: %w", err)
			}
			return nil
		}
		if fd != int(s) && !isPollDescriptor(uintptr(fd)) {
			_ = unix.Close(fd)
		}
	}
}

// maxRuntime is how far from the socket the runtime's descriptors may be.
const maxRuntime = 16

//go:linkname isPollDescriptor internal/poll.IsPollDescriptor
func isPollDescriptor(fd uintptr) bool

// filter loads the seccomp filter into this thread.
func filter(p *plan.Plan) error {
	if len(p.Seccomp) == 0 {
		return nil
	}
	prog := unix.SockFprog{
		Len:    uint16(len(p.Seccomp) / 8),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(p.Seccomp))),
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.SeccompFlags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(p)
	if errno != 0 {
		return fmt.Errorf("load seccomp filter: %w", errno)
	}
	return nil
}
