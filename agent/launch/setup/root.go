// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/inroot"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

// root is the container's root file system while it is made, before the process
// lives in it.
type root struct {
	path  string
	fd    int // O_PATH
	links int // to nowhere that were followed
	plan  *plan.Plan
	// cgroup is the directory of the container's cgroup, or of all.
	cgroup string
}

// maxLinks is the kernel's own limit.
const maxLinks = 40

// openRoot makes the mount tree the container's own and puts the root file
// system on top of itself: only a mount can become the root.
func openRoot(dir, cgroup string, p *plan.Plan) (*root, error) {
	if err := unix.Mount("", "/", "", uintptr(p.Propagation), ""); err != nil {
		return nil, fmt.Errorf("set propagation: %w", err)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, fmt.Errorf("open root file system: %w", err)
	}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE})
	if err != nil {
		return nil, fmt.Errorf("make root file system private: %w", err)
	}
	if err := below(dir); err != nil {
		return nil, err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return nil, fmt.Errorf("mount root file system: %w", err)
	}
	return &root{path: dir, fd: tree, plan: p, cgroup: cgroup}, nil
}

// below makes the mount that dir is on private, so that what is mounted on dir
// stays in this namespace.
func below(dir string) error {
	for ; ; dir = path.Dir(dir) {
		err := unix.Mount("", dir, "", unix.MS_PRIVATE, "")
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINVAL) || dir == "/" {
			return fmt.Errorf("make %s private: %w", dir, err)
		}
	}
}

// open opens a path of the container as the payload would find it. How the
// image and its volumes arrange their links never leads outside.
func (r *root) open(name string, flags uint64) (int, error) {
	return inroot.Open(r.fd, strings.TrimPrefix(name, "/"), flags, unix.RESOLVE_NO_MAGICLINKS)
}

// mkdir opens a directory of the container and makes what is missing of it.
func (r *root) mkdir(dir string) (int, error) {
	if dir == "/" || dir == "." {
		return unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 3)
	}
	fd, err := r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parent, err := r.mkdir(path.Dir(dir))
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(parent) }()
	err = unix.Mkdirat(parent, path.Base(dir), 0o755)
	if errors.Is(err, unix.EEXIST) {
		// A link to nowhere: what it names is made.
		link := make([]byte, unix.PathMax)
		if n, err := unix.Readlinkat(parent, path.Base(dir), link); err == nil {
			return r.mkdirLinked(parent, string(link[:n]))
		}
	} else if err != nil {
		return -1, err
	}
	return r.open(dir, unix.O_PATH|unix.O_DIRECTORY)
}

// mkdirLinked makes the directory that a link in parent names.
func (r *root) mkdirLinked(parent int, link string) (int, error) {
	if r.links++; r.links > maxLinks {
		return -1, unix.ELOOP
	}
	if !path.IsAbs(link) {
		where, err := r.where(parent)
		if err != nil {
			return -1, err
		}
		link = path.Join(where, link)
	}
	return r.mkdir(path.Clean(link))
}

// where returns the path of a descriptor within the root.
func (r *root) where(fd int) (string, error) {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	if name == r.path {
		return "/", nil
	}
	inside, ok := strings.CutPrefix(name, r.path+"/")
	if !ok {
		return "", fmt.Errorf("the target is %q, which is outside", name)
	}
	return "/" + inside, nil
}

// target opens the place of a mount, and makes it if the container lacks it: a
// directory, or a file for what is no directory. known is its mode, 0 if it was
// made.
func (r *root) target(name string, file bool) (fd int, known uint32, err error) {
	fd, err = r.open(name, unix.O_PATH)
	if err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err != nil {
			return -1, 0, err
		}
		return fd, st.Mode, nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return -1, 0, err
	}
	if !file {
		fd, err = r.mkdir(name)
		return fd, 0, err
	}
	dir, err := r.mkdir(path.Dir(name))
	if err != nil {
		return -1, 0, err
	}
	defer func() { _ = unix.Close(dir) }()
	made, err := unix.Openat(dir, path.Base(name), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
	if err != nil {
		return -1, 0, err
	}
	_ = unix.Close(made)
	fd, err = r.open(name, unix.O_PATH)
	return fd, 0, err
}

// mount executes one mount of the plan. A new file system has been opened by init.
func (r *root) mount(m *plan.Mount, opened int) error {
	if m.Bind() {
		return r.bind(m)
	}
	defer func() { _ = unix.Close(opened) }()
	if m.Type == "proc" || m.Type == "sysfs" {
		if err := r.plain(m.Target); err != nil {
			return err
		}
	}
	fd, mode, err := r.target(m.Target, false)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := r.check(fd, m); err != nil {
		return err
	}
	data := m.Data
	if m.Type == "tmpfs" && mode != 0 {
		// A new tmpfs has the mode of the directory it covers.
		data = fmt.Sprintf("mode=%04o", mode&0o7777)
		if m.Data != "" {
			data += "," + m.Data
		}
	}
	tree, err := r.create(opened, m, data)
	if err == nil && covers(tree, fd) {
		_ = unix.Close(tree)
		err = unix.EBUSY
	}
	if m.Type == "cgroup" && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY)) {
		return r.bindCgroup(m)
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	if err := attach(tree, fd); err != nil {
		return err
	}
	return propagate(tree, m.Propagation)
}

// writable reports whether things are put into a read-only mount before it
// becomes read-only.
func writable(m *plan.Mount) bool {
	return m.Flags&unix.MS_RDONLY != 0 && (m.Type == "tmpfs" || m.Target == "/dev")
}

// bind shows a directory or file of the host in the container.
func (r *root) bind(m *plan.Mount) error {
	tree, err := r.source(m)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }()
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	if m.Set|m.Clear != 0 {
		err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: m.Set, Attr_clr: m.Clear})
		if errors.Is(err, unix.EPERM) && r.plan.UserNS() {
			err = setUnlocked(tree, m)
		}
		if err != nil {
			return err
		}
	}
	fd, _, err := r.target(m.Target, st.Mode&unix.S_IFMT != unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := r.check(fd, m); err != nil {
		return err
	}
	if err := attach(tree, fd); err != nil {
		return err
	}
	if err := propagate(tree, m.Propagation); err != nil {
		return err
	}
	if m.RecSet|m.RecClear == 0 {
		return nil
	}
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: m.RecSet, Attr_clr: m.RecClear})
}

// bindCgroup shows cgroups that cannot be mounted: in the middle of a bind mount
// of the host's /sys, or if they are not the user namespace's. With a namespace
// of cgroups, they are those from the container's own on.
func (r *root) bindCgroup(m *plan.Mount) error {
	b := plan.Mount{Type: "bind", Source: r.cgroup, Target: m.Target, Set: m.Set, Clear: m.Clear, Propagation: m.Propagation}
	return r.bind(&b)
}

// source clones what a bind mount shows.
func (r *root) source(m *plan.Mount) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if m.Flags&unix.MS_REC != 0 {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	if err != nil || m.IDMap == plan.IDMapNone {
		return tree, err
	}
	if err := mapOwners(tree, m.IDMap == plan.IDMapRecursive); err != nil {
		_ = unix.Close(tree)
		return -1, fmt.Errorf("map the owners of its files: %w", err)
	}
	return tree, nil
}

// attach mounts a tree on the file or directory that a descriptor stands for.
func attach(tree, target int) error {
	return unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

func propagate(mount int, all []uint64) error {
	for _, p := range all {
		flags := uint(unix.AT_EMPTY_PATH)
		if p&unix.MS_REC != 0 {
			flags |= unix.AT_RECURSIVE
		}
		if err := unix.MountSetattr(mount, "", flags, &unix.MountAttr{Propagation: p &^ unix.MS_REC}); err != nil {
			return fmt.Errorf("set propagation: %w", err)
		}
	}
	return nil
}

// plain refuses a target that is a link: proc and sysfs are where they seem to
// be, or the payload could make masks and read-only paths miss them.
func (r *root) plain(name string) error {
	fd, err := inroot.Open(r.fd, strings.TrimPrefix(name, "/"), unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	switch {
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, unix.ENOENT):
		return nil
	}
	return fmt.Errorf("the target is not an ordinary directory: %w", err)
}

// check refuses to cover the root, and anything in /proc: links in the image
// could lead there.
func (r *root) check(fd int, m *plan.Mount) error {
	switch inside, err := r.where(fd); {
	case err != nil:
		return err
	case inside == "/":
		return errors.New("the target is the root")
	case inside == "/proc" && m.Type != "proc", strings.HasPrefix(inside, "/proc/"):
		return errors.New("the target is in /proc")
	}
	return nil
}

// pivot makes the root file system this process's root, and lets go of the
// host's.
func (r *root) pivot() error {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(old) }()
	// Both names are the same directory: afterwards the old root covers the new
	// one there, and is taken away.
	if err := unix.Fchdir(r.fd); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Fchdir(old); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Mount("", ".", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return unix.Close(r.fd)
}
