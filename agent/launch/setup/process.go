// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// newKeyring gives the container a session keyring of its own, which it may
// search: as its owner, or in a user namespace, where it may become the user of
// another one, as anybody. A kernel without keyrings has none to protect.
func newKeyring(c *calls, name string, userNS bool) {
	// What the kernel lets the owner do with a new one, and searching it.
	permissions := uintptr(keyPossessor | keyOwner | keyOwnerSearch)
	if userNS {
		permissions = keyPossessor | keyOwner | keyOtherSearch
	}
	session := unix.KEY_SPEC_SESSION_KEYRING // negative
	c.add("join session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, c.text(name)).ignore = int(unix.ENOSYS)
	c.add("open session keyring", unix.SYS_KEYCTL, unix.KEYCTL_SETPERM, uintptr(session), permissions).ignore = int(unix.ENOSYS)
}

// Permissions of keys (keyctl_setperm(3)).
const (
	keyPossessor   = 0x3f000000 // everything
	keyOwner       = 0x00130000 // view, read, link
	keyOwnerSearch = 0x00080000
	keyOtherSearch = 0x00000008
)

// loopback brings lo up.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// environment is the payload's: of a variable that is set twice the last value
// counts, and HOME is the user's own unless it is set.
func environment(env []string, uid uint64) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	home := false
	for _, kv := range slices.Backward(env) {
		key, value, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("environment variable %q is not NAME=VALUE", kv)
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		switch {
		case key == "PATH": // by which the payload is found
			if err := os.Setenv(key, value); err != nil {
				return nil, err
			}
		case key == "HOME" && value == "":
			continue
		case key == "HOME":
			home = true
		}
		out = append(out, kv)
	}
	slices.Reverse(out)
	if !home {
		out = append(out, "HOME="+homeOf(uid))
	}
	return out, nil
}

// homeOf looks a user's home up in the container's own list of users.
func homeOf(uid uint64) string {
	passwd, err := readFile("/etc/passwd", 1<<20)
	if err != nil {
		return "/"
	}
	for line := range bytes.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) < 6 || f[0] == "" {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 10, 32); err == nil && n == uid {
			return f[5]
		}
	}
	return "/"
}

// become has init give itself the payload's standard files, directory, user and
// capabilities. This thread takes the same user, to see what the payload will.
//
// Without no_new_privs a filter needs a capability, so it is loaded before they
// are dropped; with it, as late as can be.
func (i *Init) become(p *plan.Plan) error {
	var c calls
	c.add("close the socket", unix.SYS_FCNTL, uintptr(i.own()), unix.F_SETFD, unix.FD_CLOEXEC)
	c.add("set umask", unix.SYS_UMASK, uintptr(p.Umask))
	for _, r := range p.Rlimits {
		c.add(fmt.Sprintf("set limit %d", r.Kind), unix.SYS_PRLIMIT64, 0, uintptr(r.Kind), c.words(uintptr(r.Soft), uintptr(r.Hard)), 0)
	}
	// Root may enter where the user may not, and the other way round.
	directory, entered := enter(p.Cwd)
	if entered != nil && !errors.Is(entered, unix.EACCES) && !errors.Is(entered, unix.EPERM) {
		return fmt.Errorf("enter %s: %w", p.Cwd, entered)
	}
	null, hosts, err := i.stdio(p)
	if err != nil {
		return err
	}
	// What init is given gets the numbers after that of its socket.
	givenDirectory, givenNull := uintptr(i.own()+1), uintptr(i.own()+2)
	for _, fd := range hosts {
		c.add("reopen standard files", unix.SYS_DUP3, givenNull, uintptr(fd), 0)
	}
	if p.NoNewPrivileges {
		c.add("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	} else {
		filter(&c, p)
	}
	if entered == nil {
		c.add("enter "+p.Cwd, unix.SYS_FCHDIR, givenDirectory)
	}
	if p.Caps != nil {
		dropBounding(&c, p)
	}
	c.add("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
	var groups []byte
	for _, g := range p.Groups {
		groups = binary.NativeEndian.AppendUint32(groups, uint32(g))
	}
	c.add("set groups", unix.SYS_SETGROUPS, uintptr(len(p.Groups)), c.memory(groups))
	c.add("set group", unix.SYS_SETGID, uintptr(p.GID))
	c.add("set user", unix.SYS_SETUID, uintptr(p.UID))
	if err := imitate(p); err != nil {
		return fmt.Errorf("set user: %w", err)
	}
	if entered != nil {
		if directory, entered = enter(p.Cwd); entered != nil {
			return fmt.Errorf("enter %s: %w", p.Cwd, entered)
		}
		c.add("enter "+p.Cwd, unix.SYS_FCHDIR, givenDirectory)
	}
	// A directory outside the root has a name that does not start with "/".
	name := make([]byte, unix.PathMax)
	if n, err := unix.Getcwd(name); err != nil || n < 1 || name[0] != '/' {
		return fmt.Errorf("enter %s: it is outside the container", p.Cwd)
	}
	c.add("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0)
	if p.Caps != nil {
		setCaps(&c, p.Caps)
	}
	fds := []int{directory}
	if p.SetupDev {
		fds = append(fds, null)
	}
	err = i.do(&c, fds...)
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return err
}

// enter opens a directory and makes it this thread's.
func enter(name string) (fd int, err error) {
	fd, err = unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Fchdir(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// stdio gives the standard files, which init has from this process, to the
// payload's user, who could not open them again otherwise. If the container has
// a /dev/null of its own, it takes the place of the host's, where hosts are.
func (i *Init) stdio(p *plan.Plan) (null int, hosts []int, err error) {
	if p.SetupDev {
		if null, err = devNull(unix.O_RDWR); err != nil {
			return -1, nil, fmt.Errorf("reopen standard files: %w", err)
		}
	}
	uid := outside(p.UID, p.UIDs)
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return -1, nil, fmt.Errorf("examine standard files: %w", err)
		}
		if isDevNull(fd) {
			if p.SetupDev {
				hosts = append(hosts, fd)
			}
			continue
		}
		if int(st.Uid) == uid {
			continue
		}
		err := unix.Fchown(fd, uid, -1)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EROFS) {
			return -1, nil, fmt.Errorf("give standard files away: %w", err)
		}
	}
	return null, hosts, nil
}

// imitate gives this thread the payload's rights to files.
func imitate(p *plan.Plan) error {
	groups := make([]uint32, len(p.Groups)+1) // never empty, for its address
	for k, g := range p.Groups {
		groups[k] = uint32(outside(g, p.GIDs))
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(p.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return errno
	}
	for _, c := range []struct {
		number uintptr
		id     int
	}{{unix.SYS_SETFSGID, outside(p.GID, p.GIDs)}, {unix.SYS_SETFSUID, outside(p.UID, p.UIDs)}} {
		// They return the old ID, whatever happens, and keep it if the new one is none.
		_, _, _ = unix.RawSyscall(c.number, uintptr(c.id), 0, 0)
		if now, _, _ := unix.RawSyscall(c.number, ^uintptr(0), 0, 0); int(now) != c.id {
			return unix.EINVAL
		}
	}
	all, err := permitted()
	if err != nil {
		return err
	}
	switch {
	case p.Caps != nil:
		return setEffective(all & p.Caps.Effective)
	case p.UID != 0:
		return setEffective(0)
	}
	return nil
}

// capget reads this thread's capabilities.
func capget() (head unix.CapUserHeader, data [2]unix.CapUserData, err error) {
	head.Version = unix.LINUX_CAPABILITY_VERSION_3
	err = unix.Capget(&head, &data[0])
	return head, data, err
}

// permitted are the capabilities that this thread may make effective.
func permitted() (uint64, error) {
	_, data, err := capget()
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, err
}

// setEffective makes capabilities effective in this thread, and no others.
func setEffective(set uint64) error {
	head, data, err := capget()
	if err != nil {
		return err
	}
	data[0].Effective, data[1].Effective = uint32(set), uint32(set>>32)
	return unix.Capset(&head, &data[0])
}

// dropBounding drops the capabilities that are not the container's. Init of a user
// namespace has all there are, others have this process's.
func dropBounding(c *calls, p *plan.Plan) {
	for b := range uintptr(64) {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, b, 0, 0, 0)
		if err != nil {
			return // beyond the kernel's last one
		}
		if (has != 0 || p.UserNS()) && p.Caps.Bounding&(1<<b) == 0 {
			c.add("drop capabilities", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, b)
		}
	}
}

func setCaps(c *calls, caps *plan.Caps) {
	var data []byte
	for _, half := range []int{0, 32} {
		for _, set := range []uint64{caps.Effective, caps.Permitted, caps.Inheritable} {
			data = binary.NativeEndian.AppendUint32(data, uint32(set>>half))
		}
	}
	var head []byte
	head = binary.NativeEndian.AppendUint32(head, unix.LINUX_CAPABILITY_VERSION_3)
	head = binary.NativeEndian.AppendUint32(head, 0)
	c.add("set capabilities", unix.SYS_CAPSET, c.memory(head), c.memory(data))
	c.add("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	for i := range uintptr(64) {
		if caps.Ambient&(1<<i) != 0 {
			// One that is not also inheritable is not given, as elsewhere.
			c.add("raise ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, i).ignore = anyErrno
		}
	}
}

// filter loads the seccomp filter.
func filter(c *calls, p *plan.Plan) {
	if len(p.Seccomp) == 0 {
		return
	}
	program := c.words(uintptr(len(p.Seccomp)/8), c.memory(p.Seccomp)) // struct sock_fprog
	c.add("load seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.SeccompFlags), program)
}

// execute is the end of init. Nothing of the host stays open in it but the
// socket, which execve closes: that is how Release learns that the payload runs.
func (i *Init) execute(program string, env []string, p *plan.Plan) *calls {
	var c calls
	c.add("close descriptors", unix.SYS_CLOSE_RANGE, uintptr(i.own()+1), closeAll, 0)
	if p.NoNewPrivileges {
		filter(&c, p)
	}
	c.add("execute "+program, unix.SYS_EXECVE, c.text(program), c.texts(p.Args), c.texts(env))
	return &c
}
