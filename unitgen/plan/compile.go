// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Unsupported says why a configuration has no plan. It is no failure: such a
// container is started by the other engine.
type Unsupported struct {
	// Where is the place in config.json, for example "mounts[3].options", What
	// is what stands there.
	Where, What string
}

func (u *Unsupported) Error() string { return u.Where + ": " + u.What + " is not on the list" }

// compiler is one call of Compile.
type compiler struct {
	spec *specs.Spec
	plan *Plan
	err  *Unsupported // the first one
}

// Compile returns the plan of a configuration, or an *Unsupported. It knows the
// configuration alone: digests and the seccomp filter are the caller's to add.
//
// What it translates, and to what, follows libcontainer's own translation, for
// a payload must not be able to tell the difference. The differential test in
// test/oci compares both.
func Compile(spec *specs.Spec) (*Plan, error) {
	c := &compiler{spec: spec, plan: &Plan{}}
	c.process()
	c.linux()
	if c.err == nil {
		for i := range spec.Mounts {
			c.mount(i, &spec.Mounts[i])
		}
	}
	if c.err != nil {
		return nil, c.err
	}
	return c.plan, nil
}

func (c *compiler) unsupported(where, format string, args ...any) {
	if c.err == nil {
		c.err = &Unsupported{where, fmt.Sprintf(format, args...)}
	}
}

// refuse names every part among those given that is there.
func (c *compiler) refuse(parts map[string]bool) {
	for _, where := range slices.Sorted(maps.Keys(parts)) {
		if parts[where] {
			c.unsupported(where, "what it asks for")
		}
	}
}

func (c *compiler) process() {
	p := c.spec.Process
	if p == nil || len(p.Args) == 0 || !path.IsAbs(p.Cwd) {
		c.unsupported("process", "an incomplete process")
		return
	}
	c.refuse(map[string]bool{
		"process.terminal":        p.Terminal,
		"process.commandLine":     p.CommandLine != "",
		"process.apparmorProfile": p.ApparmorProfile != "",
		"process.selinuxLabel":    p.SelinuxLabel != "",
		"process.scheduler":       p.Scheduler != nil,
		"process.ioPriority":      p.IOPriority != nil,
		"hooks":                   c.spec.Hooks != nil,
		"solaris":                 c.spec.Solaris != nil,
		"windows":                 c.spec.Windows != nil,
		"vm":                      c.spec.VM != nil,
		"zos":                     c.spec.ZOS != nil,
	})
	out := c.plan
	if ofItself(p.Cwd) {
		c.unsupported("process.cwd", "%s, which is another one for each process", p.Cwd)
	}
	out.Cwd, out.Args, out.Env = p.Cwd, p.Args, p.Env
	for i, s := range slices.Concat(p.Args, p.Env, []string{p.Cwd}) {
		if strings.ContainsRune(s, 0) {
			c.unsupported("process", "a zero byte in argument, variable or directory %d", i)
		}
	}
	out.UID, out.GID = uint64(p.User.UID), uint64(p.User.GID)
	for _, g := range p.User.AdditionalGids {
		out.Groups = append(out.Groups, uint64(g))
	}
	out.Umask = 0o022
	if p.User.Umask != nil {
		out.Umask = uint64(*p.User.Umask)
	}
	out.NoNewPrivileges = p.NoNewPrivileges
	if p.OOMScoreAdj != nil {
		n := int64(*p.OOMScoreAdj)
		out.OOMScoreAdj = &n
	}
	c.rlimits(p)
	c.capabilities(p)
}

// ofItself reports whether a path is one of those by which a process finds
// itself in /proc. The process that makes the container is not in it, and would
// take them for missing.
func ofItself(p string) bool {
	parts := strings.Split(path.Clean(p), "/")
	return len(parts) > 2 && parts[1] == "proc" && slices.Contains([]string{"self", "thread-self", "mounts", "net"}, parts[2])
}

func (c *compiler) rlimits(p *specs.Process) {
	seen := map[string]bool{}
	for i, r := range p.Rlimits {
		kind := slices.Index(rlimits, r.Type)
		if kind < 0 || seen[r.Type] {
			c.unsupported(fmt.Sprintf("process.rlimits[%d]", i), "%s", r.Type)
			return
		}
		seen[r.Type] = true
		c.plan.Rlimits = append(c.plan.Rlimits, Rlimit{uint64(kind), r.Soft, r.Hard})
	}
}

func (c *compiler) capabilities(p *specs.Process) {
	if p.Capabilities == nil {
		return
	}
	set := func(name string, names []string) (bits uint64) {
		for _, n := range names {
			i := slices.Index(capabilities, n)
			if i < 0 {
				c.unsupported("process.capabilities."+name, "%s", n)
				return 0
			}
			bits |= 1 << i
		}
		return bits
	}
	c.plan.Caps = &Caps{
		Bounding:    set("bounding", p.Capabilities.Bounding),
		Effective:   set("effective", p.Capabilities.Effective),
		Permitted:   set("permitted", p.Capabilities.Permitted),
		Inheritable: set("inheritable", p.Capabilities.Inheritable),
		Ambient:     set("ambient", p.Capabilities.Ambient),
	}
}

func (c *compiler) linux() {
	l := c.spec.Linux
	if l == nil {
		c.unsupported("linux", "its absence")
		return
	}
	c.refuse(map[string]bool{
		"linux.timeOffsets":  l.TimeOffsets != nil,
		"linux.mountLabel":   l.MountLabel != "",
		"linux.intelRdt":     l.IntelRdt != nil,
		"linux.personality":  l.Personality != nil,
		"linux.netDevices":   len(l.NetDevices) > 0,
		"linux.memoryPolicy": l.MemoryPolicy != nil,
	})
	c.namespaces(l)
	c.ids(l)
	out := c.plan
	out.Hostname, out.Domainname = c.spec.Hostname, c.spec.Domainname
	if out.Namespaces&newUTS == 0 && out.Hostname+out.Domainname != "" {
		c.unsupported("hostname", "a name without an own UTS namespace")
	}
	out.Loopback = out.Namespaces&newNet != 0
	out.ReadonlyRoot = c.spec.Root != nil && c.spec.Root.Readonly
	switch l.RootfsPropagation {
	case "", "rslave":
		out.Propagation = msSlave | msRec
	case "rprivate":
		out.Propagation = msPrivate | msRec
	default:
		c.unsupported("linux.rootfsPropagation", "%s", l.RootfsPropagation)
	}
	for _, s := range slices.Concat(l.MaskedPaths, l.ReadonlyPaths, []string{out.Hostname, out.Domainname}) {
		if strings.ContainsRune(s, 0) {
			c.unsupported("linux", "a zero byte in %q", s)
		}
	}
	for _, p := range slices.Concat(l.MaskedPaths, l.ReadonlyPaths) {
		if !path.IsAbs(p) {
			c.unsupported("linux.maskedPaths", "the relative path %s", p)
		}
		if ofItself(p) {
			c.unsupported("linux.maskedPaths", "%s, which is another one for each process", p)
		}
	}
	out.Masked, out.Readonly = l.MaskedPaths, l.ReadonlyPaths
	c.devices(l)
	c.sysctls(l)
	if s := l.Seccomp; s != nil {
		c.refuse(map[string]bool{"linux.seccomp.listenerPath": s.ListenerPath != ""})
		for _, call := range s.Syscalls {
			if call.Action == specs.ActNotify {
				c.unsupported("linux.seccomp.syscalls", "%s", specs.ActNotify)
			}
		}
	}
}

func (c *compiler) namespaces(l *specs.Linux) {
	var joined uint64
	for i, ns := range l.Namespaces {
		flag, ok := namespaceFlags[ns.Type]
		where := fmt.Sprintf("linux.namespaces[%d]", i)
		switch {
		case !ok:
			c.unsupported(where, "the namespace %s", ns.Type)
		case (c.plan.Namespaces|joined)&flag != 0:
			c.unsupported(where, "a second namespace of one type")
		case ns.Path != "" && (!slices.Contains(joinable, flag) || !path.IsAbs(ns.Path) || strings.ContainsRune(ns.Path, 0)):
			c.unsupported(where, "joining %s", ns.Path)
		case ns.Path != "":
			c.plan.Joined = append(c.plan.Joined, Join{flag, ns.Path})
			joined |= flag
		default:
			c.plan.Namespaces |= flag
		}
	}
	if c.plan.Namespaces&newMount == 0 {
		c.unsupported("linux.namespaces", "the absence of an own mount namespace")
	}
}

// ids takes the mapping of a user namespace.
func (c *compiler) ids(l *specs.Linux) {
	for _, m := range []struct {
		where string
		from  []specs.LinuxIDMapping
		to    *[]IDMap
	}{
		{"linux.uidMappings", l.UIDMappings, &c.plan.UIDs},
		{"linux.gidMappings", l.GIDMappings, &c.plan.GIDs},
	} {
		if (len(m.from) > 0) != c.plan.UserNS() {
			c.unsupported(m.where, "a user namespace without a mapping or the other way round,")
		}
		*m.to = idMaps(m.from)
		if slices.ContainsFunc(*m.to, func(m IDMap) bool { return !m.possible() }) {
			c.unsupported(m.where, "an impossible range")
		}
	}
}

func idMaps(from []specs.LinuxIDMapping) []IDMap {
	var to []IDMap
	for _, m := range from {
		to = append(to, IDMap{uint64(m.ContainerID), uint64(m.HostID), uint64(m.Size)})
	}
	return to
}

// possible reports whether a range is one of the kernel's, whose last ID is
// nobody's.
func (m IDMap) possible() bool {
	const end = 1<<32 - 1
	return m.Count > 0 && m.Count <= end && m.Inside <= end-m.Count && m.Outside <= end-m.Count
}

func (c *compiler) devices(l *specs.Linux) {
	out := c.plan
	out.SetupDev = !slices.ContainsFunc(c.spec.Mounts, func(m specs.Mount) bool {
		return isBind(m.Options) && path.Clean(m.Destination) == "/dev"
	})
	for _, d := range defaultDevices {
		if !slices.ContainsFunc(l.Devices, func(o specs.LinuxDevice) bool { return o.Path == d.Path }) {
			out.Devices = append(out.Devices, d)
		}
	}
	for i, d := range l.Devices {
		n := Device{Path: path.Clean(d.Path), Mode: 0o666, Major: uint64(d.Major), Minor: uint64(d.Minor)}
		if d.FileMode != nil {
			n.Mode = uint64(*d.FileMode) & 0o7777
		}
		if d.UID != nil {
			n.UID = uint64(*d.UID)
		}
		if d.GID != nil {
			n.GID = uint64(*d.GID)
		}
		kind, ok := deviceTypes[d.Type]
		switch where := fmt.Sprintf("linux.devices[%d]", i); {
		case !ok:
			c.unsupported(where, "the type %q", d.Type)
		case !path.IsAbs(d.Path) || n.Path == "/" || strings.ContainsRune(d.Path, 0):
			c.unsupported(where, "the path %q", d.Path)
		case d.Major < 0 || d.Minor < 0:
			c.unsupported(where, "the number %d:%d", d.Major, d.Minor)
		}
		n.Mode |= kind
		if n.Path != "/dev/ptmx" {
			out.Devices = append(out.Devices, n)
		}
	}
}

// sysctls takes the parameters that belong to a namespace of the container.
func (c *compiler) sysctls(l *specs.Linux) {
	for _, name := range slices.Sorted(maps.Keys(l.Sysctl)) {
		value := l.Sysctl[name]
		var needs uint64
		switch {
		case strings.HasPrefix(name, "net."):
			needs = newNet
		case IPCSysctl(name):
			needs = newIPC
		case name == "kernel.domainname":
			needs = newUTS
		}
		if needs == 0 || c.plan.Namespaces&needs == 0 || strings.ContainsAny(name, "/\x00") ||
			strings.Contains(name, "..") || strings.ContainsRune(value, 0) {
			c.unsupported("linux.sysctl", "%s", name)
			return
		}
		c.plan.Sysctls = append(c.plan.Sysctls, Sysctl{strings.ReplaceAll(name, ".", "/"), value})
	}
}
