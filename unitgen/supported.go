// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// checkSupported reports what of a configuration neither the launcher nor the
// unit can give. A start would fail because of it, or worse, succeed without.
func (r *renderer) checkSupported(spec *rspec.Spec) {
	bad := func(pointer, format string, args ...any) {
		// The reader looks for the path in the template as in the specification.
		where := strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
		r.probs.add(r.config.problem(r.offset(pointer), where+": "+format, args...))
	}
	for where, foreign := range map[string]bool{
		"/windows": spec.Windows != nil, "/solaris": spec.Solaris != nil, "/vm": spec.VM != nil, "/zos": spec.ZOS != nil, "/freebsd": spec.FreeBSD != nil,
	} {
		if foreign {
			bad(where, "this host runs Linux containers")
		}
	}
	l := spec.Linux
	if l.IntelRdt != nil {
		bad("/linux/intelRdt", "cache and bandwidth allocation is not supported")
	}
	if len(l.NetDevices) > 0 {
		bad("/linux/netDevices", "network devices of the host cannot be moved into a container")
	}
	checkNamespaces(spec, bad)
	checkSeccomp(l.Seccomp, bad)
	checkSysctls(spec, bad)
	checkProcess(spec.Process, bad)
	checkFiles(spec, bad)
	checkResources(l.Resources, bad)
	for _, h := range hooks(spec) {
		if !path.IsAbs(h.Path) {
			bad("/hooks/"+h.stage, "the path %q is not absolute", h.Path)
		}
	}
}

type reporter func(pointer, format string, args ...any)

func checkNamespaces(spec *rspec.Spec, bad reporter) {
	l := spec.Linux
	seen := map[rspec.LinuxNamespaceType]bool{}
	known := []rspec.LinuxNamespaceType{
		rspec.PIDNamespace, rspec.NetworkNamespace, rspec.MountNamespace, rspec.IPCNamespace, rspec.UTSNamespace,
		rspec.UserNamespace, rspec.CgroupNamespace, rspec.TimeNamespace,
	}
	for i, ns := range l.Namespaces {
		where := fmt.Sprintf("/linux/namespaces/%d", i)
		switch {
		case !slices.Contains(known, ns.Type):
			bad(where, "there is no namespace of type %q", ns.Type)
		case seen[ns.Type]:
			bad(where, "the type %q occurs twice", ns.Type)
		case ns.Path != "" && !path.IsAbs(ns.Path):
			bad(where, "the path %q is not absolute", ns.Path)
		case ns.Type == rspec.MountNamespace && ns.Path != "":
			bad(where, "a mount namespace cannot be joined: the root file system is mounted in a new one")
		}
		seen[ns.Type] = true
	}
	user := namespace(spec, rspec.UserNamespace)
	switch mapped := len(l.UIDMappings)+len(l.GIDMappings) > 0; {
	case !seen[rspec.MountNamespace]:
		bad("/linux/namespaces", "there is no mount namespace: a container needs its own")
	case user == nil && mapped:
		bad("/linux/uidMappings", "there is no user namespace")
	case user != nil && user.Path == "" && (len(l.UIDMappings) == 0 || len(l.GIDMappings) == 0):
		bad("/linux/namespaces", "a new user namespace needs uidMappings and gidMappings")
	case user != nil && user.Path != "" && mapped:
		bad("/linux/uidMappings", "a user namespace that is joined has its mappings")
	}
	if len(l.TimeOffsets) > 0 && !seen[rspec.TimeNamespace] {
		bad("/linux/timeOffsets", "there is no time namespace")
	}
	for clock := range l.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			bad("/linux/timeOffsets", "the clock %q has no offset", clock)
		}
	}
	if !seen[rspec.UTSNamespace] {
		if spec.Hostname != "" {
			bad("/hostname", "there is no UTS namespace: it would rename the host")
		}
		if spec.Domainname != "" {
			bad("/domainname", "there is no UTS namespace: it would rename the host")
		}
	}
}

func checkSeccomp(s *rspec.LinuxSeccomp, bad reporter) {
	if s == nil {
		return
	}
	actions := []rspec.LinuxSeccompAction{
		rspec.ActKill, rspec.ActKillProcess, rspec.ActKillThread, rspec.ActTrap, rspec.ActErrno, rspec.ActTrace, rspec.ActAllow, rspec.ActLog,
	}
	operators := []rspec.LinuxSeccompOperator{
		rspec.OpNotEqual, rspec.OpLessThan, rspec.OpLessEqual, rspec.OpEqualTo, rspec.OpGreaterEqual, rspec.OpGreaterThan, rspec.OpMaskedEqual,
	}
	action := func(where string, a rspec.LinuxSeccompAction) {
		if a == rspec.ActNotify {
			bad(where, "nobody is there to answer notifications: the action %s is not supported", a)
		} else if !slices.Contains(actions, a) {
			bad(where, "there is no action %q", a)
		}
	}
	if s.ListenerPath != "" || s.ListenerMetadata != "" {
		bad("/linux/seccomp/listenerPath", "nobody is there to answer notifications")
	}
	action("/linux/seccomp/defaultAction", s.DefaultAction)
	for i, c := range s.Syscalls {
		where := fmt.Sprintf("/linux/seccomp/syscalls/%d", i)
		action(where+"/action", c.Action)
		if len(c.Names) == 0 {
			bad(where+"/names", "no system call is named")
		}
		for j, a := range c.Args {
			if !slices.Contains(operators, a.Op) || a.Index > 5 {
				bad(fmt.Sprintf("%s/args/%d", where, j), "%q of argument %d is no comparison", a.Op, a.Index)
			}
		}
	}
	for i, a := range s.Architectures {
		if !strings.HasPrefix(string(a), "SCMP_ARCH_") {
			bad(fmt.Sprintf("/linux/seccomp/architectures/%d", i), "there is no architecture %q", a)
		}
	}
	for i, f := range s.Flags {
		switch f {
		case rspec.LinuxSeccompFlagLog, rspec.LinuxSeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_TSYNC":
		default:
			bad(fmt.Sprintf("/linux/seccomp/flags/%d", i), "the flag %s is not supported", f)
		}
	}
}

// checkSysctls refuses kernel settings of the host: they belong into sysctl.d.
func checkSysctls(spec *rspec.Spec, bad reporter) {
	for key := range spec.Linux.Sysctl {
		where := "/linux/sysctl"
		dotted := strings.ReplaceAll(key, "/", ".")
		private := func(t rspec.LinuxNamespaceType) bool { return namespace(spec, t) != nil }
		switch {
		case plan.IPCSysctl(dotted):
			if !private(rspec.IPCNamespace) {
				bad(where, "%s is the host's without an IPC namespace", key)
			}
		case strings.HasPrefix(dotted, "net."):
			if !private(rspec.NetworkNamespace) {
				bad(where, "%s is the host's without a network namespace", key)
			}
		case dotted == "kernel.domainname":
			if !private(rspec.UTSNamespace) {
				bad(where, "%s is the host's without a UTS namespace", key)
			}
		case dotted == "kernel.hostname":
			bad(where, "%s is set by hostname", key)
		case strings.HasPrefix(dotted, "user."):
			if !private(rspec.UserNamespace) {
				bad(where, "%s is the host's without a user namespace", key)
			}
		default:
			bad(where, "%s is a setting of the host, not of a container", key)
		}
	}
}

func checkProcess(p *rspec.Process, bad reporter) {
	seen := map[string]bool{}
	for i, limit := range p.Rlimits {
		where := fmt.Sprintf("/process/rlimits/%d", i)
		switch {
		case !plan.IsRlimit(limit.Type):
			bad(where, "there is no limit %q", limit.Type)
		case seen[limit.Type]:
			bad(where, "the limit %s occurs twice", limit.Type)
		case limit.Soft > limit.Hard:
			bad(where, "the soft limit %d is above the hard limit %d", limit.Soft, limit.Hard)
		}
		seen[limit.Type] = true
	}
	if s := p.OOMScoreAdj; s != nil && (*s < -1000 || *s > 1000) {
		bad("/process/oomScoreAdj", "%d is not between -1000 and 1000", *s)
	}
	if io := p.IOPriority; io != nil {
		if !slices.Contains([]rspec.IOPriorityClass{rspec.IOPRIO_CLASS_RT, rspec.IOPRIO_CLASS_BE, rspec.IOPRIO_CLASS_IDLE}, io.Class) || io.Priority < 0 || io.Priority > 7 {
			bad("/process/ioPriority", "%s with priority %d is not one", io.Class, io.Priority)
		}
	}
	if s := p.Scheduler; s != nil {
		policies := []rspec.LinuxSchedulerPolicy{
			rspec.SchedOther, rspec.SchedFIFO, rspec.SchedRR, rspec.SchedBatch, rspec.SchedISO, rspec.SchedIdle, rspec.SchedDeadline,
		}
		if !slices.Contains(policies, s.Policy) {
			bad("/process/scheduler", "there is no policy %q", s.Policy)
		}
	}
}

func checkFiles(spec *rspec.Spec, bad reporter) {
	l := spec.Linux
	switch l.RootfsPropagation {
	case "", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
	default:
		bad("/linux/rootfsPropagation", "there is no mode %q", l.RootfsPropagation)
	}
	for i, d := range l.Devices {
		switch d.Type {
		case "b", "c", "u", "p":
		default:
			bad(fmt.Sprintf("/linux/devices/%d", i), "there is no device of type %q", d.Type)
		}
	}
	for name, paths := range map[string][]string{"maskedPaths": l.MaskedPaths, "readonlyPaths": l.ReadonlyPaths} {
		for i, p := range paths {
			if !path.IsAbs(p) {
				bad(fmt.Sprintf("/linux/%s/%d", name, i), "%q is not absolute", p)
			}
		}
	}
	for i, m := range spec.Mounts {
		where := fmt.Sprintf("/mounts/%d", i)
		mapped := len(m.UIDMappings)+len(m.GIDMappings) > 0
		switch {
		case mapped && !isBind(m):
			bad(where, "only a bind mount can be id-mapped")
		case mapped && (len(m.UIDMappings) == 0 || len(m.GIDMappings) == 0):
			bad(where, "an id-mapped mount needs uidMappings and gidMappings")
		case !mapped && namespace(spec, rspec.UserNamespace) == nil && (slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")):
			bad(where, "an id-mapped mount needs mappings or a user namespace")
		}
	}
	if p := l.Personality; p != nil {
		if p.Domain != rspec.PerLinux && p.Domain != rspec.PerLinux32 {
			bad("/linux/personality", "there is no domain %q", p.Domain)
		}
		if len(p.Flags) > 0 {
			bad("/linux/personality", "flags are not supported")
		}
	}
}
