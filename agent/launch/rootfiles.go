// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/inroot"
)

// rootFiles are the files of a running container as its processes see them.
// The payload may have changed every one of them: nothing here follows a link
// out of the container, waits for a FIFO or reads without end.
type rootFiles struct{ fd int }

// maxUsers bounds what is read of passwd and group.
const maxUsers = 1 << 20

// openRoot opens the root directory of a process.
func openRoot(pid int) (rootFiles, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return rootFiles{-1}, fmt.Errorf("open root directory: %w", err)
	}
	return rootFiles{fd}, nil
}

func (r rootFiles) close() { _ = unix.Close(r.fd) }

// open opens a path inside the container; symlinks lead nowhere else.
func (r rootFiles) open(path string, flags uint64) (*os.File, error) {
	fd, err := inroot.Open(r.fd, path, flags, unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// mode returns the type and permissions of what is at a path, or 0.
func (r rootFiles) mode(path string) uint32 {
	f, err := r.open(path, unix.O_PATH)
	if err != nil {
		return 0
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Mode
}

func (r rootFiles) isDir(path string) bool {
	return path != "" && r.mode(path)&unix.S_IFMT == unix.S_IFDIR
}

// isProgram reports whether a path can be executed by somebody.
func (r rootFiles) isProgram(path string) bool {
	m := r.mode(path)
	return m&unix.S_IFMT == unix.S_IFREG && m&0o111 != 0
}

// firstProgram returns the first of some programs that there is, or "".
func (r rootFiles) firstProgram(paths ...string) string {
	for _, p := range paths {
		if r.isProgram(p) {
			return p
		}
	}
	return ""
}

// read returns the content of a regular file; a missing one is empty.
func (r rootFiles) read(path string, limit int64) ([]byte, error) {
	if m := r.mode(path); m == 0 || m&unix.S_IFMT != unix.S_IFREG {
		return nil, nil
	}
	f, err := r.open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, nil // removed meanwhile
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errors.New("file is too large")
	}
	return data, err
}

// devPtsMajor are the device numbers of pseudo terminals.
const devPtsMajor, devPtsMajors = 136, 8

// terminal opens a pseudo terminal of the container, "pts/0" for example.
func (r rootFiles) terminal(name string) (*os.File, error) {
	path := "/dev/" + name
	if m := r.mode(path); m&unix.S_IFMT != unix.S_IFCHR {
		return nil, fmt.Errorf("terminal %s is not in the container", name)
	}
	f, err := r.open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if err := checkTerminal(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// checkTerminal refuses what is not a pseudo terminal, and makes it block.
func checkTerminal(f *os.File) error {
	fd := int(f.Fd()) // makes it block
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("examine terminal: %w", err)
	}
	if major := unix.Major(st.Rdev); st.Mode&unix.S_IFMT != unix.S_IFCHR || major < devPtsMajor || major >= devPtsMajor+devPtsMajors {
		return errors.New("what was to be the terminal is something else")
	}
	return unix.SetNonblock(fd, false)
}

// account is a user as the container's own files describe it.
type account struct {
	UID, GID          int
	Groups            []int
	Name, Home, Shell string
}

// user looks a user up, "USER" or "USER:GROUP", names or numbers. What the
// container's files do not say is taken from the payload's user.
func (r rootFiles) user(who string, uid, gid int) (account, error) {
	passwd, err := r.read("/etc/passwd", maxUsers)
	if err != nil {
		return account{}, fmt.Errorf("read the container's /etc/passwd: %w", err)
	}
	groups, err := r.read("/etc/group", maxUsers)
	if err != nil {
		return account{}, fmt.Errorf("read the container's /etc/group: %w", err)
	}
	return lookup(who, passwd, groups, uid, gid)
}

func lookup(who string, passwd, groups []byte, uid, gid int) (account, error) {
	if name, _, _ := strings.Cut(who, ":"); name == "root" && len(passwd) == 0 {
		who = "0" + strings.TrimPrefix(who, "root") // whatever the image has no file for
	}
	u, err := user.GetExecUser(who, &user.ExecUser{Uid: uid, Gid: gid}, bytes.NewReader(passwd), bytes.NewReader(groups))
	if err != nil {
		return account{}, hint.New(fmt.Errorf("user %q: %w", who, err), "the container's own /etc/passwd and /etc/group count; numbers always work")
	}
	a := account{UID: u.Uid, GID: u.Gid, Groups: u.Sgids, Home: u.Home, Name: strconv.Itoa(u.Uid)}
	found, err := user.ParsePasswdFilter(bytes.NewReader(passwd), func(e user.User) bool { return e.Uid == u.Uid })
	if err == nil && len(found) > 0 {
		a.Name, a.Shell = found[0].Name, found[0].Shell
	} else if u.Uid == 0 {
		a.Name = "root"
	}
	return a, nil
}

// variables are what a login sets.
func (a account) variables() []string {
	home, shell := a.Home, a.Shell
	if home == "" {
		home = "/"
	}
	if shell == "" {
		shell = "/bin/sh"
	}
	return []string{"HOME=" + home, "USER=" + a.Name, "LOGNAME=" + a.Name, "SHELL=" + shell}
}
