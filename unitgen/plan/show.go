// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Show writes a plan for people, one line a step, in the order of execution.
func (p *Plan) Show(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	step := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	step("plan", "version %d, for config.json %.12s and root file system %.12s", Version, p.Config, p.Rootfs)
	for _, j := range p.Joined {
		step("join", "%s of %s", strings.Join(names(j.Kind, namespaceNames), " "), j.Path)
	}
	cloned, made := p.Namespaces, uint64(0)
	if p.UserNS() {
		cloned &= newUser | newPID
		made = p.Namespaces &^ cloned
	}
	step("clone", "%s", strings.Join(names(cloned, namespaceNames), " "))
	for _, ids := range []struct {
		what string
		list []IDMap
	}{{"user IDs", p.UIDs}, {"group IDs", p.GIDs}} {
		for _, m := range ids.list {
			step(ids.what, "%d-%d are %d-%d of the host", m.Inside, m.Inside+m.Count-1, m.Outside, m.Outside+m.Count-1)
		}
	}
	if made != 0 {
		step("unshare", "%s", strings.Join(names(made, namespaceNames), " "))
	}
	if p.OOMScoreAdj != nil {
		step("oom_score_adj", "%d", *p.OOMScoreAdj)
	}
	if p.Loopback {
		step("network", "lo up")
	}
	step("root", "%s", strings.Join(names(p.Propagation, flagNames), ","))
	for i := range p.Mounts {
		step("mount", "%s", p.Mounts[i].text())
	}
	if p.SetupDev {
		for _, d := range p.Devices {
			if p.UserNS() {
				step("device", "%s of the host", d.Path)
				continue
			}
			step("device", "%s %s", d.Path, d.text())
		}
	}
	step("pivot", "read-only=%t", p.ReadonlyRoot)
	for _, s := range []struct{ what, value string }{{"hostname", p.Hostname}, {"domainname", p.Domainname}} {
		if s.value != "" {
			step(s.what, "%s", s.value)
		}
	}
	for _, s := range p.Sysctls {
		step("sysctl", "%s = %s", s.Path, s.Value)
	}
	for _, s := range p.Readonly {
		step("read-only", "%s", s)
	}
	for _, s := range p.Masked {
		step("mask", "%s", s)
	}
	for _, r := range p.Rlimits {
		step("rlimit", "%s %s:%s", rlimits[r.Kind], limit(r.Soft), limit(r.Hard))
	}
	if c := p.Caps; c != nil {
		for _, s := range []struct {
			name string
			bits uint64
		}{{"bounding", c.Bounding}, {"permitted", c.Permitted}, {"effective", c.Effective}, {"inheritable", c.Inheritable}, {"ambient", c.Ambient}} {
			step("capabilities", "%s: %s", s.name, strings.Join(capNames(s.bits), " "))
		}
	}
	step("user", "%d:%d groups %v umask %04o", p.UID, p.GID, p.Groups, p.Umask)
	step("directory", "%s", p.Cwd)
	for _, e := range p.Env {
		step("environment", "%s", strconv.Quote(e))
	}
	step("no new privileges", "%t", p.NoNewPrivileges)
	if len(p.Seccomp) > 0 {
		step("seccomp", "%d instructions, flags %#x", len(p.Seccomp)/8, p.SeccompFlags)
	}
	step("execute", "%q", p.Args)
	return w.Flush()
}

func (m *Mount) text() string {
	s := m.Type + " " + m.Target
	if m.Bind() {
		s = "bind " + m.Source + " on " + m.Target
	}
	opts := names(m.Flags, flagNames)
	if m.Bind() {
		opts = append(opts, names(m.Set, attrNames)...)
	}
	for _, n := range names(m.RecSet, attrNames) {
		opts = append(opts, "r"+n)
	}
	switch m.IDMap {
	case IDMapTop:
		opts = append(opts, "idmap")
	case IDMapRecursive:
		opts = append(opts, "ridmap")
	}
	for _, p := range m.Propagation {
		opts = append(opts, names(p, flagNames)...)
	}
	if m.Data != "" {
		opts = append(opts, m.Data)
	}
	if len(opts) == 0 {
		return s
	}
	return s + ": " + strings.Join(opts, ",")
}

func (d *Device) text() string {
	kind := "fifo"
	switch d.Mode &^ 0o7777 {
	case typeChar:
		kind = "char"
	case typeBlock:
		kind = "block"
	}
	return fmt.Sprintf("%s %d:%d mode %04o owner %d:%d", kind, d.Major, d.Minor, d.Mode&0o7777, d.UID, d.GID)
}

func limit(n uint64) string {
	if n == ^uint64(0) {
		return "infinity"
	}
	return strconv.FormatUint(n, 10)
}

type named struct {
	name string
	bits uint64
}

var namespaceNames = []named{
	{"mount", newMount}, {"cgroup", newCgroup}, {"uts", newUTS}, {"ipc", newIPC}, {"pid", newPID}, {"network", newNet}, {"user", newUser},
}

var flagNames = []named{
	{"ro", msReadonly},
	{"nosuid", msNosuid},
	{"nodev", msNodev},
	{"noexec", msNoexec},
	{"sync", msSync},
	{"mand", msMandlock},
	{"dirsync", msDirsync},
	{"nosymfollow", msNosymfollow},
	{"noatime", msNoatime},
	{"nodiratime", msNodiratime},
	{"silent", msSilent},
	{"unbindable", msUnbindable},
	{"private", msPrivate},
	{"slave", msSlave},
	{"shared", msShared},
	{"relatime", msRelatime},
	{"iversion", msIversion},
	{"strictatime", msStrictatime},
	{"lazytime", msLazytime},
	{"recursive", msRec},
}

var attrNames = []named{
	{"ro", attrReadonly},
	{"nosuid", attrNosuid},
	{"nodev", attrNodev},
	{"noexec", attrNoexec},
	{"noatime", attrNoatime},
	{"strictatime", attrStrictatime},
	{"nodiratime", attrNodiratime},
	{"nosymfollow", attrNosymfollow},
}

// names lists what is set in bits; what has no name is a number.
func names(bits uint64, table []named) []string {
	var list []string
	for _, n := range table {
		if bits&n.bits == n.bits {
			list = append(list, n.name)
			bits &^= n.bits
		}
	}
	if bits != 0 {
		list = append(list, fmt.Sprintf("%#x", bits))
	}
	return list
}

func capNames(bits uint64) []string {
	var list []string
	for i, n := range capabilities {
		if bits&(1<<i) != 0 {
			list = append(list, strings.TrimPrefix(n, "CAP_"))
		}
	}
	return slices.Clip(list)
}
