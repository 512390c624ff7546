// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/hint"
)

// IDs are the user and group IDs of a container with a user namespace: what is
// 0 to Count-1 inside is First to First+Count-1 on the host. The zero value is
// no user namespace.
type IDs struct{ First, Count uint32 }

// idMap lets the owners of a detached mount's files appear moved to ids: root's
// are First's. The files do not change.
func idMap(m *os.File, ids IDs) error {
	if ids == (IDs{}) {
		return nil
	}
	ns, err := userNamespace(ids)
	if err != nil {
		return err
	}
	defer ns.Close()
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(int(m.Fd()), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("map owners to %d: %w", ids.First, err)
	}
	return nil
}

// userNamespace returns a user namespace with the IDs. The kernel takes a
// mapping only in this form, and a namespace begins with a process: here one
// that is stopped before its first instruction and never runs.
func userNamespace(ids IDs) (*os.File, error) {
	// The tracer is this thread; it must still be here to let go.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(ids.First), Size: int(ids.Count)}}
	p, err := os.StartProcess("/proc/self/exe", []string{"user-namespace"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: mapping, GidMappings: mapping,
		Ptrace: true, Pdeathsig: unix.SIGKILL,
	}})
	if err != nil {
		return nil, hint.New(fmt.Errorf("make a user namespace: %w", err),
			"see user_namespaces(7) and /proc/sys/user/max_user_namespaces")
	}
	ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(p.Pid), "ns/user"))
	_ = p.Kill()
	_, _ = p.Wait()
	if err != nil {
		return nil, fmt.Errorf("open user namespace: %w", err)
	}
	return ns, nil
}

// CheckIDs reports whether the kernel makes user namespaces with such IDs: nil,
// or why not.
func CheckIDs(ids IDs) error {
	ns, err := userNamespace(ids)
	if err == nil {
		ns.Close()
	}
	return err
}

// CanIDMap reports whether files below path can have their owners moved: nil,
// or why not. It tries, and changes nothing.
func CanIDMap(path string) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the mount of %s: %w", path, err)
	}
	m := os.NewFile(uintptr(fd), path)
	defer m.Close()
	err = idMap(m, IDs{First: 1 << 19, Count: 1 << 16})
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("the file system of %s cannot be id-mapped", path)
	}
	return err
}
