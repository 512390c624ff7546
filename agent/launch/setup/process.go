// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// newKeyring gives the container a session keyring of its own, which it may
// search: as its owner, or in a user namespace, where it may become the user of
// another one, as anybody. A kernel without keyrings has none to protect.
func newKeyring(name string, userNS bool) error {
	ring, err := unix.KeyctlJoinSessionKeyring(name)
	if errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("join session keyring: %w", err)
	}
	// "type;uid;gid;perm;description"
	about, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, ring)
	if err != nil {
		return fmt.Errorf("describe session keyring: %w", err)
	}
	fields := strings.Split(about, ";")
	if len(fields) < 5 {
		return errors.New("describe session keyring: unexpected answer")
	}
	perm, err := strconv.ParseUint(fields[3], 16, 32)
	if err != nil {
		return fmt.Errorf("describe session keyring: %w", err)
	}
	search := uint32(0x80000)
	if userNS {
		search = 0x8
	}
	if err := unix.KeyctlSetperm(ring, uint32(perm)|search); err != nil {
		return fmt.Errorf("open session keyring: %w", err)
	}
	return nil
}

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

// setRlimits sets the plan's limits. The Go runtime has raised the soft limit
// of open files for itself; syscall.Exec puts it back unless it is set here.
func setRlimits(all []plan.Rlimit) error {
	for _, r := range all {
		if err := syscall.Setrlimit(int(r.Kind), &syscall.Rlimit{Cur: r.Soft, Max: r.Hard}); err != nil {
			return fmt.Errorf("set limit %d: %w", r.Kind, err)
		}
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

// become gives the thread the payload's directory, user and capabilities.
func become(p *plan.Plan) error {
	// Root may enter where the user may not, and the other way round.
	entered := unix.Chdir(p.Cwd)
	if entered != nil && !errors.Is(entered, unix.EACCES) && !errors.Is(entered, unix.EPERM) {
		return fmt.Errorf("enter %s: %w", p.Cwd, entered)
	}
	if p.Caps != nil {
		if err := dropBounding(p.Caps.Bounding); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := setUser(p); err != nil {
		return err
	}
	if entered != nil {
		if err := unix.Chdir(p.Cwd); err != nil {
			return fmt.Errorf("enter %s: %w", p.Cwd, err)
		}
	}
	// A directory outside the root has a name that does not start with "/".
	name := make([]byte, unix.PathMax)
	if n, err := unix.Getcwd(name); err != nil || n < 1 || name[0] != '/' {
		return fmt.Errorf("enter %s: it is outside the container", p.Cwd)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if p.Caps == nil {
		return nil
	}
	return setCaps(p.Caps)
}

// setUser changes the user of this thread alone: the others end at execve.
func setUser(p *plan.Plan) error {
	if err := chownStdio(int(p.UID)); err != nil {
		return err
	}
	groups := make([]uint32, len(p.Groups)+1) // never empty, for its address
	for i, g := range p.Groups {
		groups[i] = uint32(g)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(p.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return fmt.Errorf("set groups: %w", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGID, uintptr(p.GID), 0, 0); errno != 0 {
		return fmt.Errorf("set group: %w", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETUID, uintptr(p.UID), 0, 0); errno != 0 {
		return fmt.Errorf("set user: %w", errno)
	}
	return nil
}

// chownStdio gives the standard files to the payload's user, who could not open
// them again otherwise.
func chownStdio(uid int) error {
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("examine standard files: %w", err)
		}
		if int(st.Uid) == uid || isDevNull(fd) {
			continue
		}
		err := unix.Fchown(fd, uid, -1)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EROFS) {
			return fmt.Errorf("give standard files away: %w", err)
		}
	}
	return nil
}

func dropBounding(keep uint64) error {
	for c := range uintptr(64) {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			return nil //nolint:nilerr // beyond the kernel's last one
		}
		if has == 0 || keep&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
	}
	return nil
}

func setCaps(c *plan.Caps) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(c.Effective), Permitted: uint32(c.Permitted), Inheritable: uint32(c.Inheritable)},
		{Effective: uint32(c.Effective >> 32), Permitted: uint32(c.Permitted >> 32), Inheritable: uint32(c.Inheritable >> 32)},
	}
	if err := unix.Capset(&head, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for i := range uintptr(64) {
		if c.Ambient&(1<<i) != 0 {
			// One that is not also inheritable is not given, as elsewhere.
			_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, i, 0, 0)
		}
	}
	return nil
}
