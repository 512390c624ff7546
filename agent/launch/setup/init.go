// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

// exitSetup is init's exit status when the container could not be made,
// exitExec when the payload could not be executed after all.
const (
	exitSetup = 1
	exitExec  = 255
)

// Init is a container's first process, which makes the system calls that it is
// told. It goes away if this process does before it has executed the payload.
type Init struct {
	PID, FD int // FD is a pidfd
	socket  int
	passed  int // how many descriptors from 3 on are the payload's
	// exe is the program that init executes. It stays open: taking its mount
	// away takes the kernel half a millisecond, which init would wait for.
	exe int
	// exec is what executes the payload, when all is made.
	exec *calls
}

// program is what init executes. It is half of a protocol whose other half is
// here, and a measured start names this program only: so `make` gives it the
// digest of the other.
const program = paths.Enter

var programSHA256 string

// openProgram opens the program that init executes, by way of a read-only view: no
// payload can ever open what the host runs for writing.
func openProgram() (int, error) {
	exe, err := unix.OpenTree(unix.AT_FDCWD, program, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: program, Err: err}
	}
	if err := unix.MountSetattr(exe, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return -1, fmt.Errorf("protect %s: %w", program, err)
	}
	data, err := readFile("/proc/self/fd/"+strconv.Itoa(exe), 1<<20)
	if err != nil {
		return -1, fmt.Errorf("read %s: %w", program, err)
	}
	if sum := sha256.Sum256(data); programSHA256 != "" && hex.EncodeToString(sum[:]) != programSHA256 {
		return -1, hint.New(fmt.Errorf("%s is not the one that belongs to this program", program), "install the package again")
	}
	return exe, nil
}

// Clone makes init, in the plan's namespaces and in this process's cgroup; how is
// CLONE_PARENT or nothing. Namespaces that are joined are so with the host's
// rights, before there is one of users.
//
// Init of a user namespace is its root from the start, and makes the others when
// it is told to: what belongs to them, such as files in /proc and /sys, is the
// namespace's root's only if that is somebody when they are made.
func Clone(p *plan.Plan, passed []*os.File, how uintptr) (*Init, error) {
	exe, err := openProgram()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	files := []uintptr{0, 1, 2}
	for _, f := range passed {
		files = append(files, f.Fd())
	}
	i := &Init{FD: -1, socket: pair[0], passed: len(passed), exe: exe}
	sys := syscall.SysProcAttr{Cloneflags: uintptr(p.Namespaces) | how, Setsid: true, PidFD: &i.FD}
	if p.UserNS() {
		sys.Cloneflags = uintptr(p.Namespaces)&(unix.CLONE_NEWUSER|unix.CLONE_NEWPID) | how
		sys.UidMappings, sys.GidMappings = idMappings(p.UIDs), idMappings(p.GIDs)
		sys.GidMappingsEnableSetgroups = true
		sys.Credential = &syscall.Credential{}
	}
	err = inNamespaces(p.Joined, func() (err error) {
		i.PID, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(i.own()+1), []string{"atomic-enter", strconv.Itoa(i.own())}, &syscall.ProcAttr{
			Files: append(files, uintptr(pair[1]), uintptr(exe)),
			Sys:   &sys,
		})
		return err
	})
	_ = unix.Close(pair[1])
	if err != nil {
		return nil, err
	}
	return i, nil
}

// own is init's own descriptor of the socket. That of its program follows, and
// then those that it opens.
func (i *Init) own() int { return 3 + i.passed }

// Abandon ends an init that has not been released.
func (i *Init) Abandon() {
	if i.socket >= 0 {
		_ = unix.Close(i.socket)
		i.socket = -1
	}
}

// Release lets init execute the payload, and returns when it has: nothing of the
// host stays open in init but the socket, and execve closes that.
func (i *Init) Release() error {
	if err := i.begin(i.exec, exitExec); err != nil {
		return err
	}
	err := i.finish(i.exec)
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// idMappings are a plan's mapped IDs for the clone of init.
func idMappings(from []plan.IDMap) (to []syscall.SysProcIDMap) {
	for _, m := range from {
		to = append(to, syscall.SysProcIDMap{ContainerID: int(m.Inside), HostID: int(m.Outside), Size: int(m.Count)})
	}
	return to
}

// outside is the host's name of an ID of the container, if that has any of its
// own.
func outside(id uint64, ids []plan.IDMap) int {
	for _, m := range ids {
		if id >= m.Inside && id-m.Inside < m.Count {
			return int(m.Outside + (id - m.Inside))
		}
	}
	if len(ids) > 0 {
		return nobody
	}
	return int(id)
}

// nobody is no ID at all.
const nobody = -1

// grant does for init what it may not do itself in a user namespace: raise
// limits, and make itself a less likely victim when memory runs out.
func (i *Init) grant(p *plan.Plan) error {
	if p.OOMScoreAdj != nil {
		if err := i.setOOMScore(*p.OOMScoreAdj); err != nil {
			return fmt.Errorf("set OOM score: %w", err)
		}
	}
	if !p.UserNS() {
		return nil
	}
	for _, r := range p.Rlimits {
		var old unix.Rlimit
		if err := prlimit(i.PID, r.Kind, nil, &old); err != nil {
			return fmt.Errorf("read limit %d: %w", r.Kind, err)
		}
		// Init sets the limits itself, when they cannot harm it any more.
		if r.Hard <= old.Max {
			continue
		}
		if err := prlimit(i.PID, r.Kind, &unix.Rlimit{Cur: old.Cur, Max: r.Hard}, nil); err != nil {
			return fmt.Errorf("set limit %d: %w", r.Kind, err)
		}
	}
	return nil
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

// setOOMScore writes init's score. The directory is that of one process for
// ever, and it is init's if init lives after it was opened.
func (i *Init) setOOMScore(score int64) error {
	dir, err := unix.Open("/proc/"+strconv.Itoa(i.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	if err := unix.PidfdSendSignal(i.FD, 0, nil, 0); err != nil {
		return err
	}
	return writeFile(dir, "oom_score_adj", strconv.FormatInt(score, 10))
}
