// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// parseConfig reads a rendered config.json in any dialect since OCI 0.3.0 as a
// specification of today. It returns nil, nil for an empty object.
//
// The contract's images spell some things in ways that were valid once:
// capabilities as one list, a top-level "platform", mount type "rbind",
// relative destinations, tmpfs options on bind mounts, "user": {} and empty
// hooks. They are translated; the meaning is kept.
func parseConfig(t *text, probs *Problems) *rspec.Spec {
	fail := func(err error) *rspec.Spec {
		probs.add(t.problem(jsonOffset(err, t.out), "Invalid json in configuration file: %s", jsonReason(err)))
		return nil
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(t.out, &top); err != nil {
		return fail(err)
	}
	if len(top) == 0 {
		return nil
	}
	content, err := listCapabilities(t.out, top)
	if err != nil {
		return fail(err)
	}
	spec := &rspec.Spec{}
	if err := json.Unmarshal(content, spec); err != nil {
		if !bytes.Equal(content, t.out) {
			// The offsets are those of the translated document.
			probs.addf(t.file, 0, 0, "Invalid json in configuration file: %s", jsonReason(err))
			return nil
		}
		return fail(err)
	}
	return spec
}

func jsonReason(err error) string {
	return strings.TrimPrefix(err.Error(), "json: ")
}

// listCapabilities translates the capabilities of OCI before 1.0.0-rc5, one
// list, into today's sets. The inheritable and ambient sets stay empty: the
// list never reached a payload that was not root.
func listCapabilities(content []byte, top map[string]json.RawMessage) ([]byte, error) {
	var process map[string]json.RawMessage
	if raw := bytes.TrimSpace(top["process"]); len(raw) == 0 || raw[0] != '{' {
		return content, nil
	} else if err := json.Unmarshal(raw, &process); err != nil {
		return nil, err
	}
	raw := bytes.TrimSpace(process["capabilities"])
	if len(raw) == 0 || raw[0] != '[' {
		return content, nil
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("process.capabilities: %s", jsonReason(err))
	}
	sets, err := json.Marshal(rspec.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list})
	if err != nil {
		return nil, err
	}
	process["capabilities"] = sets
	if top["process"], err = json.Marshal(process); err != nil {
		return nil, err
	}
	return json.Marshal(top)
}

// normalise rewrites a parsed configuration in today's terms. It does not
// change what the configuration asks for, except where that cannot work or
// where leaving it out would open the host; each such change is a warning or
// is documented in docs/compat.md.
func (r *renderer) normalise(spec *rspec.Spec) {
	spec.Version = rspec.Version
	if spec.Process.Cwd == "" {
		spec.Process.Cwd = "/"
	}
	if spec.Hooks != nil && len(hooks(spec)) == 0 {
		spec.Hooks = nil
	}
	spec.Linux.CgroupsPath = "" // the cgroup is the unit's own
	for i := range spec.Mounts {
		r.normaliseMount(&spec.Mounts[i])
	}
	if spec.Process.Capabilities == nil {
		// To the runtimes of the contract's time that meant none, to today's
		// it means every one.
		spec.Process.Capabilities = &rspec.LinuxCapabilities{}
	}
	r.intersectCapabilities(spec.Process.Capabilities)
	if l := spec.Process.SelinuxLabel; l != "" && !r.in.Host.SELinux {
		spec.Process.SelinuxLabel = ""
		spec.Linux.MountLabel = ""
		r.warnf("SELinux is off on this host: the label %s has no effect", l)
	}
	if p := spec.Process.ApparmorProfile; p != "" && !r.in.Host.AppArmor {
		spec.Process.ApparmorProfile = ""
		r.warnf("AppArmor is off on this host: the profile %s has no effect", p)
	}
	r.harden(spec)
}

// bindFlags are the options that mean something on a bind mount; anything
// else there is data for a file system, which a bind mount has none of, and
// which old images put there nevertheless.
var bindFlags = strings.Fields(`async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand
	noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow
	rbind relatime remount ro rw silent strictatime suid symfollow sync
	private rprivate shared rshared slave rslave unbindable runbindable
	rro rrw rnosuid rsuid rnodev rdev rnoexec rexec rnodiratime rdiratime rrelatime rnorelatime rnoatime ratime
	rstrictatime rnostrictatime rnosymfollow rsymfollow idmap ridmap`)

func (r *renderer) normaliseMount(m *rspec.Mount) {
	if m.Destination != "" && !path.IsAbs(m.Destination) {
		m.Destination = "/" + m.Destination
	}
	if m.Destination != "" {
		m.Destination = path.Clean(m.Destination)
	}
	if m.Type == "rbind" {
		m.Type = "bind"
		m.Options = append([]string{"rbind"}, m.Options...)
	}
	if m.Type == "bind" && !isBind(*m) {
		m.Options = append([]string{"bind"}, m.Options...)
	}
	if !isBind(*m) {
		return
	}
	m.Type = "bind"
	if !path.IsAbs(m.Source) {
		m.Source = path.Join(r.in.DestDir, m.Source)
	}
	m.Source = path.Clean(m.Source)
	m.Options = slices.DeleteFunc(m.Options, func(o string) bool {
		if slices.Contains(bindFlags, o) {
			return false
		}
		if !strings.HasPrefix(o, "mode=") { // the contract's own images have it
			r.warnf("mount %s: the option %s has no effect on a bind mount", m.Destination, o)
		}
		return true
	})
}

func isBind(m rspec.Mount) bool {
	return slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// writable reports whether the last of the options ro and rw leaves a mount
// writable.
func writable(options []string) bool {
	rw := true
	for _, o := range options {
		switch o {
		case "ro", "rro":
			rw = false
		case "rw":
			rw = true
		}
	}
	return rw
}

// intersectCapabilities drops what the host cannot give: the kernel refuses
// to start a payload that asks for more than the bounding set.
func (r *renderer) intersectCapabilities(c *rspec.LinuxCapabilities) {
	var dropped []string
	have := r.in.Host.hostCapabilities()
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted, &c.Inheritable, &c.Ambient} {
		var kept []string
		for _, name := range *set {
			name = capName(name)
			switch {
			case slices.Contains(kept, name) || slices.Contains(dropped, name):
			case slices.Contains(have, name):
				kept = append(kept, name)
			default:
				dropped = append(dropped, name)
			}
		}
		*set = kept
	}
	if len(dropped) > 0 {
		r.warnf("the host cannot give %s: left out", strings.Join(dropped, ", "))
	}
}

func capName(s string) string {
	s = strings.ToUpper(s)
	if !strings.HasPrefix(s, "CAP_") {
		s = "CAP_" + s
	}
	return s
}

// hook is an OCI hook with the name of its stage.
type hook struct {
	stage string
	rspec.Hook
}

func hooks(spec *rspec.Spec) []hook {
	if spec.Hooks == nil {
		return nil
	}
	var all []hook
	for _, s := range []struct {
		stage string
		hooks []rspec.Hook
	}{
		{"prestart", spec.Hooks.Prestart}, //nolint:staticcheck // old images use it, and it runs on the host.
		{"createRuntime", spec.Hooks.CreateRuntime},
		{"createContainer", spec.Hooks.CreateContainer},
		{"startContainer", spec.Hooks.StartContainer},
		{"poststart", spec.Hooks.Poststart},
		{"poststop", spec.Hooks.Poststop},
	} {
		for _, h := range s.hooks {
			all = append(all, hook{s.stage, h})
		}
	}
	return all
}

// privileged reports whether the payload is meant to administer the host.
func privileged(spec *rspec.Spec) bool {
	c := spec.Process.Capabilities
	return c != nil && slices.Contains(c.Bounding, "CAP_SYS_ADMIN")
}

func namespace(spec *rspec.Spec, t rspec.LinuxNamespaceType) *rspec.LinuxNamespace {
	for i := range spec.Linux.Namespaces {
		if spec.Linux.Namespaces[i].Type == t {
			return &spec.Linux.Namespaces[i]
		}
	}
	return nil
}

// Paths below /proc and /sys that a container has no business with. Old
// templates name few or none, and a payload that is uid 0 could write them.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	// What of /proc/sys stays read-only for a container that administers the
	// network: all but /proc/sys/net.
	readonlySysctls = []string{
		"/proc/sys/abi", "/proc/sys/crypto", "/proc/sys/debug", "/proc/sys/dev", "/proc/sys/fs",
		"/proc/sys/kernel", "/proc/sys/sunrpc", "/proc/sys/user", "/proc/sys/vm",
	}
)

// harden closes the ways by which an unprivileged configuration of 2018 would
// own the host: writable /proc/sys, the host's cgroup tree, and files opened
// by handle with CAP_DAC_READ_SEARCH.
func (r *renderer) harden(spec *rspec.Spec) {
	if privileged(spec) {
		return
	}
	l := spec.Linux
	c := spec.Process.Capabilities
	if !r.granted("mount:proc:rw") {
		readonly := readonlyPaths
		if c != nil && slices.Contains(c.Bounding, "CAP_NET_ADMIN") {
			readonly = slices.Concat(readonlySysctls, readonly)
			readonly = slices.DeleteFunc(readonly, func(p string) bool { return p == "/proc/sys" })
		}
		for _, p := range maskedPaths {
			if !slices.Contains(l.MaskedPaths, p) {
				l.MaskedPaths = append(l.MaskedPaths, p)
			}
		}
		for _, p := range readonly {
			if !slices.Contains(l.ReadonlyPaths, p) && !slices.Contains(l.MaskedPaths, p) {
				l.ReadonlyPaths = append(l.ReadonlyPaths, p)
			}
		}
	}
	if namespace(spec, rspec.PIDNamespace) != nil && namespace(spec, rspec.CgroupNamespace) == nil {
		l.Namespaces = append(l.Namespaces, rspec.LinuxNamespace{Type: rspec.CgroupNamespace})
	}
	if c != nil && l.Seccomp == nil && slices.Contains(c.Bounding, "CAP_DAC_READ_SEARCH") &&
		!r.granted("cap:DAC_READ_SEARCH") {
		l.Seccomp = denySyscalls("open_by_handle_at")
	}
}

// checkConfig reports what no deployment can have.
func (r *renderer) checkConfig(spec *rspec.Spec) {
	bad := func(where string, format string, args ...any) {
		r.probs.add(r.config.problem(r.offset(where), format, args...))
	}
	switch {
	case r.runOnce:
	case spec.Root == nil || !spec.Root.Readonly:
		bad("/root", "Only readonly images are supported")
	case spec.Root.Path != "rootfs":
		bad("/root/path", "Path must be 'rootfs'")
	}
	if len(spec.Process.Args) == 0 {
		bad("/process", "process.args is empty: nothing to run")
	}
	if spec.Process.Terminal {
		bad("/process/terminal", "process.terminal must be false: a service has no terminal")
	}
	if !path.IsAbs(spec.Process.Cwd) {
		bad("/process/cwd", "process.cwd must be an absolute path")
	}
	for i, m := range spec.Mounts {
		where := fmt.Sprintf("/mounts/%d", i)
		switch {
		case m.Destination == "" || m.Destination == "/":
			bad(where, "mount destination %q is not a place in the container", m.Destination)
		case strings.ContainsRune(m.Destination+m.Source+m.Type+strings.Join(m.Options, ""), 0):
			bad(where, "mount %q contains a NUL byte", m.Destination)
		}
	}
	for i, d := range spec.Linux.Devices {
		if !path.IsAbs(d.Path) || path.Clean(d.Path) != d.Path {
			bad(fmt.Sprintf("/linux/devices/%d", i), "device path %q is not an absolute, clean path", d.Path)
		}
	}
	for _, e := range spec.Process.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" || strings.ContainsRune(e, 0) {
			bad("/process/env", "environment entry %q is not NAME=VALUE", e)
		}
	}
}
