// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// native writes a configuration as settings of systemd, which then does what
// the launcher would do. What it cannot express is a problem: nothing of a
// configuration is left out silently but what protects the host less than
// systemd does anyway.
type native struct {
	r     *renderer
	spec  *rspec.Spec
	lines []string
}

// notNative ends the problem of whatever systemd cannot express.
const notNative = ": not with --isolation=native"

// nativeLines returns the lines of [Service] that start the container without
// the launcher.
func (r *renderer) nativeLines(spec *rspec.Spec) []string {
	n := &native{r: r, spec: spec}
	n.refuse()
	n.command()
	n.line("RootDirectory=%s", quoteWord(r.in.DestDir+"/rootfs"))
	n.line("RootDirectoryStartOnly=yes")
	n.line("MountAPIVFS=yes")
	n.line("PrivateDevices=yes")
	n.namespaces()
	n.mounts()
	n.process()
	n.syscalls()
	return n.lines
}

func (n *native) line(format string, args ...any) {
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

// cannot reports what systemd has no setting for.
func (n *native) cannot(pointer, format string, args ...any) {
	n.r.probs.add(n.r.config.problem(n.r.offset(pointer), "%s"+notNative, fmt.Sprintf(format, args...)))
}

func (n *native) refuse() {
	r, l, p := n.r, n.spec.Linux, n.spec.Process
	if r.in.Options.Init == "yes" {
		r.probs.addf("--init", 0, 0, "a process 1 of atomic's"+notNative)
	}
	for _, s := range r.settings {
		if s.section == "Service" && strings.HasPrefix(s.key, "Exec") && s.value != "" && !r.harmlessExec(s) && !r.isLaunch(s.value) {
			r.probs.add(r.unit.problem(s.offset, "%s= runs on the host"+notNative, s.key))
		}
	}
	for _, c := range []struct {
		pointer string
		wants   bool
	}{
		{"/hooks", n.spec.Hooks != nil},
		{"/linux/sysctl", len(l.Sysctl) > 0},
		{"/linux/devices", len(l.Devices) > 0},
		{"/linux/uidMappings", len(l.UIDMappings) > 0},
		{"/linux/timeOffsets", len(l.TimeOffsets) > 0},
		{"/linux/intelRdt", l.IntelRdt != nil},
		{"/linux/personality", l.Personality != nil},
		{"/linux/rootfsPropagation", strings.HasSuffix(l.RootfsPropagation, "shared")},
		{"/process/scheduler", p.Scheduler != nil},
		{"/process/ioPriority", p.IOPriority != nil},
	} {
		if c.wants {
			n.cannot(c.pointer, "%s", c.pointer[1:])
		}
	}
	if slices.ContainsFunc(deviceRules(n.spec), func(d deviceRule) bool { return !harmlessDevice(d) }) {
		n.cannot("/linux/resources/devices", "devices beyond the usual ones")
	}
}

// command writes the command line. systemd looks for the program in the image
// and expands nothing in it.
func (n *native) command() {
	args := n.spec.Process.Args
	if len(args) == 0 {
		n.cannot("/process/args", "a configuration without a command")
		return
	}
	program := n.r.program(args[0], n.spec.Process.Env)
	if !path.IsAbs(program) {
		n.cannot("/process/args/0", "the program %q, which is not found in the image", args[0])
		return
	}
	prefix, words := ":", []string{program}
	if program != args[0] {
		prefix, words = ":@", []string{program, args[0]}
	}
	n.r.out.Command = program
	words = append(words, args[1:]...)
	for i, w := range words {
		if strings.ContainsFunc(w, cannotQuote) {
			n.cannot("/process/args", "an argument with control characters")
			return
		}
		words[i] = quoteWord(w)
	}
	n.line("ExecStart=")
	n.line("ExecStart=%s%s", prefix, strings.Join(words, " "))
}

// program finds a program as the payload's own PATH would.
func (r *renderer) program(name string, env []string) string {
	if strings.Contains(name, "/") {
		return name
	}
	dirs := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	for _, dir := range strings.Split(dirs, ":") {
		if e, ok := r.lookup(r.resolve(path.Join(dir, name))); ok && e.Mode&fs.ModeType == 0 && path.IsAbs(dir) {
			return path.Join(dir, name)
		}
	}
	return name
}

func (n *native) namespaces() {
	for _, ns := range n.spec.Linux.Namespaces {
		switch {
		case ns.Path != "" && ns.Type == rspec.NetworkNamespace:
			n.line("NetworkNamespacePath=%s", quoteWord(ns.Path))
		case ns.Path != "":
			n.cannot("/linux/namespaces", "the %s namespace of another process", ns.Type)
		case ns.Type == rspec.PIDNamespace:
			n.line("PrivatePIDs=yes")
		case ns.Type == rspec.IPCNamespace:
			n.line("PrivateIPC=yes")
		case ns.Type == rspec.NetworkNamespace:
			n.line("PrivateNetwork=yes")
		case ns.Type == rspec.UTSNamespace:
			n.line("ProtectHostname=yes") // the host's name, and no way to change it
		case ns.Type == rspec.CgroupNamespace:
			n.line("ProtectControlGroups=strict")
		case ns.Type == rspec.MountNamespace:
		default:
			n.cannot("/linux/namespaces", "a %s namespace", ns.Type)
		}
	}
}

func (n *native) mounts() {
	seen := map[string]bool{}
	for i, m := range n.spec.Mounts {
		at := fmt.Sprintf("/mounts/%d", i)
		if seen[m.Destination] {
			n.cannot(at, "two mounts on %s", m.Destination)
		}
		seen[m.Destination] = true
		switch {
		case isBind(m):
			n.bind(m, at)
		case m.Destination == "/proc" && m.Type == "proc", m.Destination == "/dev" && m.Type == "tmpfs",
			m.Destination == "/dev/pts" && m.Type == "devpts", m.Destination == "/dev/mqueue" && m.Type == "mqueue",
			m.Destination == "/sys" && m.Type == "sysfs", m.Destination == "/run" && m.Type == "tmpfs",
			m.Destination == "/sys/fs/cgroup" && (m.Type == "cgroup" || m.Type == "cgroup2"):
			// MountAPIVFS=, PrivateDevices= and PrivateIPC= make them.
			if m.Destination == "/sys" && !writable(m.Options) {
				n.line("ProtectKernelTunables=yes")
			}
		case m.Type == "tmpfs":
			options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return strings.Contains(o, "propagat") })
			n.line("TemporaryFileSystem=%s", quoteWord(strings.TrimSuffix(m.Destination+":"+strings.Join(options, ","), ":")))
		default:
			n.cannot(at, "a mount of %s on %s", m.Type, m.Destination)
		}
	}
	for _, p := range n.spec.Linux.MaskedPaths {
		n.line("InaccessiblePaths=%s", quoteWord("-"+p))
	}
	for _, p := range n.spec.Linux.ReadonlyPaths {
		n.line("ReadOnlyPaths=%s", quoteWord("-"+p))
	}
}

func (n *native) bind(m rspec.Mount, at string) {
	for _, o := range m.Options {
		switch o {
		case "shared", "rshared", "unbindable", "runbindable", "idmap", "ridmap":
			n.cannot(at, "the option %s of the mount on %s", o, m.Destination)
		}
	}
	if strings.ContainsAny(m.Source+m.Destination, ":") {
		n.cannot(at, "a colon in the mount on %s", m.Destination)
	}
	key, recursive := "BindPaths", "norbind"
	if !writable(m.Options) {
		key = "BindReadOnlyPaths"
	}
	if slices.Contains(m.Options, "rbind") {
		recursive = "rbind"
	}
	n.line("%s=%s", key, quoteWord(m.Source+":"+m.Destination+":"+recursive))
	if slices.Contains(m.Options, "noexec") {
		n.line("NoExecPaths=%s", quoteWord(m.Destination))
	}
}

func (n *native) process() {
	p := n.spec.Process
	n.line("WorkingDirectory=%s", quoteWord(p.Cwd))
	for _, e := range p.Env {
		if strings.ContainsFunc(e, cannotQuote) {
			n.cannot("/process/env", "a variable with control characters")
			continue
		}
		n.line("Environment=%s", quoteWord(e))
	}
	if has := n.r.in.Host.HasUser; has != nil && p.User.UID != 0 && !has(p.User.UID) {
		n.cannot("/process/user", "the user %d, whom the host does not have", p.User.UID)
	}
	for _, gid := range append(p.User.AdditionalGids, p.User.GID) {
		if has := n.r.in.Host.HasGroup; has != nil && gid != 0 && !has(gid) {
			n.cannot("/process/user", "the group %d, which the host does not have", gid)
		}
	}
	if p.User.UID != 0 {
		n.line("User=%d", p.User.UID)
	}
	if p.User.UID != 0 || p.User.GID != 0 {
		n.line("Group=%d", p.User.GID)
	}
	if len(p.User.AdditionalGids) > 0 {
		groups := strings.Trim(fmt.Sprint(p.User.AdditionalGids), "[]")
		n.line("SupplementaryGroups=%s", groups)
	}
	if p.User.Umask != nil {
		n.line("UMask=%04o", *p.User.Umask)
	}
	var c rspec.LinuxCapabilities
	if p.Capabilities != nil {
		c = *p.Capabilities
	}
	n.line("CapabilityBoundingSet=%s", strings.Join(c.Bounding, " "))
	n.line("AmbientCapabilities=%s", strings.Join(c.Ambient, " "))
	n.line("NoNewPrivileges=%s", map[bool]string{true: "yes", false: "no"}[p.NoNewPrivileges])
	for _, l := range p.Rlimits {
		n.line("%s=%d:%d", "Limit"+strings.TrimPrefix(l.Type, "RLIMIT_"), l.Soft, l.Hard)
	}
	if p.OOMScoreAdj != nil {
		n.line("OOMScoreAdjust=%d", *p.OOMScoreAdj)
	}
	if p.ApparmorProfile != "" {
		n.line("AppArmorProfile=%s", quoteWord(p.ApparmorProfile))
	}
	if p.SelinuxLabel != "" {
		n.line("SELinuxContext=%s", quoteWord(p.SelinuxLabel))
	}
}

// nativeHardening is for images that bring no configuration of their own: the
// default seccomp filter in systemd's words, and what goes with it.
var nativeHardening = strings.Fields(`RestrictNamespaces=yes LockPersonality=yes RestrictRealtime=yes
	ProtectKernelModules=yes ProtectKernelLogs=yes ProtectClock=yes SystemCallArchitectures=native
	SystemCallFilter=@system-service`)

// nativeFilter takes from systemd's group for services what Docker's profile
// does not have.
const nativeFilter = "~@keyring io_uring_enter io_uring_register io_uring_setup setns unshare userfaultfd"

func (n *native) syscalls() {
	s := n.spec.Linux.Seccomp
	switch {
	case s == nil:
		return
	case n.r.generated:
		n.lines = append(n.lines, nativeHardening...)
		n.line("SystemCallFilter=%s", nativeFilter)
	case s.DefaultAction != rspec.ActAllow || slices.ContainsFunc(s.Syscalls, func(c rspec.LinuxSyscall) bool {
		return c.Action != rspec.ActErrno || c.ErrnoRet != nil && *c.ErrnoRet != 1 || len(c.Args) > 0
	}):
		n.cannot("/linux/seccomp", "a seccomp filter that is more than a list of system calls that fail")
		return
	default:
		var names []string
		for _, c := range s.Syscalls {
			names = append(names, c.Names...)
		}
		n.line("SystemCallFilter=%s", "~"+strings.Join(names, " "))
	}
	n.line("SystemCallErrorNumber=EPERM")
}

// nativeMountPoints are what systemd needs in a root directory.
func nativeMountPoints() []rspec.Mount {
	var mounts []rspec.Mount
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run"} {
		mounts = append(mounts, rspec.Mount{Destination: dir, Type: "tmpfs"})
	}
	return mounts
}
