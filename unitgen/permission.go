// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

// defaultCapabilities need no grant; see capabilityByDefault for two more.
// MKNOD is not among them: the unit's device policy allows the TPM to the
// launcher, and with MKNOD the payload could reach it as well.
var defaultCapabilities = strings.Fields(`CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
	CAP_FSETID CAP_KILL CAP_NET_BIND_SERVICE CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID
	CAP_SYS_CHROOT`)

// askConfig notes what a configuration asks of the host.
func (r *renderer) askConfig(spec *rspec.Spec) {
	why := func(pointer string) string {
		off := r.offset(pointer)
		if _, ok := r.places[pointer]; !ok && r.generated && strings.HasPrefix(pointer, "/mounts/") {
			return "generated from the " + imageConfigFile
		}
		return r.config.where(off)
	}
	r.askMounts(spec, why)
	if c := spec.Process.Capabilities; c != nil {
		for _, name := range slices.Sorted(slices.Values(slices.Concat(c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient))) {
			r.ask("cap:"+strings.TrimPrefix(name, "CAP_"), capabilityByDefault(spec, name), why("/process/capabilities"))
		}
	}
	r.askNamespaces(spec, why)
	for _, d := range deviceRules(spec) {
		r.ask("device:"+d.node+":"+d.access, harmlessDevice(d), why("/linux/resources/devices"))
	}
	for _, h := range hooks(spec) {
		r.ask("exec:hook-"+h.stage+"="+strings.Join(append([]string{h.Path}, h.Args...), " "),
			h.stage == "createContainer" || h.stage == "startContainer", why("/hooks"))
	}
	if l := spec.Process.SelinuxLabel; l != "" {
		r.ask("lsm:"+l, false, why("/process/selinuxLabel"))
	}
	if p := spec.Process.ApparmorProfile; p != "" {
		r.ask("lsm:"+p, false, why("/process/apparmorProfile"))
	}
	for _, key := range slices.Sorted(maps.Keys(spec.Linux.Sysctl)) {
		byDefault := namespace(spec, rspec.NetworkNamespace) != nil && strings.HasPrefix(key, "net.") ||
			namespace(spec, rspec.IPCNamespace) != nil && plan.IPCSysctl(key)
		r.ask("sysctl:"+key, byDefault, why("/linux/sysctl"))
	}
}

// capabilityByDefault reports whether the default profile has a capability for
// this configuration.
func capabilityByDefault(spec *rspec.Spec, name string) bool {
	switch name {
	case "CAP_NET_RAW":
		// In the host's network it reads everybody's packets.
		return namespace(spec, rspec.NetworkNamespace) != nil
	case "CAP_DAC_READ_SEARCH":
		// harden denies open_by_handle_at, but not in a filter of the image.
		s := spec.Linux.Seccomp
		return s != nil && s.DefaultAction == rspec.ActAllow && len(s.Syscalls) == 1 &&
			slices.Equal(s.Syscalls[0].Names, []string{"open_by_handle_at"})
	}
	return slices.Contains(defaultCapabilities, name)
}

func (r *renderer) askMounts(spec *rspec.Spec, why func(string) string) {
	for i, m := range spec.Mounts {
		at := why("/mounts/" + strconv.Itoa(i))
		if !isBind(m) {
			r.askFilesystem(m, at)
			continue
		}
		if r.isOurs(m) {
			continue
		}
		if r.out.IDs != nil && m.Source == "/sys" && m.Destination == "/sys" {
			continue // what a sysfs would show
		}
		mode := "ro"
		if writable(m.Options) {
			mode = "rw"
		}
		byDefault := r.pathByDefault(m.Source, mode == "rw") && !strings.ContainsFunc(m.Source, isControl)
		if detour := r.detour(m.Source); byDefault && detour != "" {
			byDefault = false
			at += " (" + detour + ")"
		}
		if slices.Contains(r.volumeSources, m.Source) {
			byDefault, at = true, "--volume"
		}
		r.ask("path:"+m.Source+":"+mode, byDefault, at)
		if slices.Contains(m.Options, "rshared") || slices.Contains(m.Options, "shared") {
			r.ask("propagate:"+m.Source, false, at)
		}
	}
}

// isOurs reports whether a bind mount is what rendering itself has added.
func (r *renderer) isOurs(m rspec.Mount) bool {
	return within(m.Source, relayDirectory(r.in.Name)) || m.Source == paths.Host{}.Bus(r.in.Name) ||
		m.Destination == initInside && m.Source == r.initProgram()
}

// detour says why a path of the container's own may lead elsewhere when it is
// used: the container could replace something on the way with a symlink, or
// the image itself installs one.
func (r *renderer) detour(p string) string {
	p = hostPath(p)
	for _, m := range r.mounts {
		if src := hostPath(m.Source); isBind(m) && writable(m.Options) && src != p && within(p, src) {
			return "below " + m.Source + ", which the container can write"
		}
	}
	for _, l := range r.links {
		if within(p, l) {
			return "through the symlink " + l
		}
	}
	return ""
}

// collectLinks notes the symlinks that the image puts on the host.
func (r *renderer) collectLinks() {
	for _, f := range r.out.HostFiles {
		if f.Mode&fs.ModeSymlink != 0 {
			r.links = append(r.links, hostPath(f.Path))
		}
	}
	for _, l := range r.tmpLines {
		if l.kind[0] == 'L' {
			r.links = append(r.links, hostPath(l.path))
		}
	}
}

// askFilesystem notes mounts of file systems other than the private ones that
// every container has.
func (r *renderer) askFilesystem(m rspec.Mount, at string) {
	if slices.Contains(m.Options, "remount") {
		r.ask("mount:remount:"+m.Destination, false, at)
		return
	}
	switch m.Type {
	case "tmpfs", "devpts", "mqueue":
	case "proc":
		// What is masked and read-only below /proc is neither elsewhere.
		if r.resolve(m.Destination) != "/proc" && writable(m.Options) {
			r.ask("mount:proc:rw", false, at)
		}
	case "cgroup", "cgroup2":
		if writable(m.Options) {
			r.ask("mount:"+m.Type+":rw", false, at)
		}
	case "sysfs":
		// Without capabilities a writable sysfs is still uid 0's to write.
		if writable(m.Options) {
			r.ask("mount:sysfs:rw", false, at)
		}
	default:
		// The options of other file systems can name paths of the host.
		r.ask("mount:"+m.Type+":"+m.Source+":"+strings.Join(m.Options, ","), false, at)
	}
}

func (r *renderer) askNamespaces(spec *rspec.Spec, why func(string) string) {
	at := why("/linux/namespaces")
	for _, ns := range []struct {
		t         rspec.LinuxNamespaceType
		byDefault bool
	}{
		{rspec.NetworkNamespace, true}, // the contract's default
		{rspec.UTSNamespace, true},     // shows the host's name, changes nothing without SYS_ADMIN
		{rspec.PIDNamespace, false},
		{rspec.IPCNamespace, false},
		{rspec.MountNamespace, false},
		{rspec.UserNamespace, true},
		{rspec.CgroupNamespace, true},
		{rspec.TimeNamespace, true},
	} {
		got := namespace(spec, ns.t)
		switch {
		case got == nil && slices.Contains([]rspec.LinuxNamespaceType{rspec.UserNamespace, rspec.CgroupNamespace, rspec.TimeNamespace}, ns.t):
			// Containers of the contract share these with the host.
		case got == nil:
			r.ask("ns:"+string(ns.t)+"-host", ns.byDefault || r.isolation() == IsolationFly, at)
		case got.Path != "":
			r.ask("ns:"+string(ns.t)+":"+got.Path, false, at)
		}
	}
	switch spec.Linux.RootfsPropagation {
	case "shared", "rshared":
		r.ask("propagate:/", false, why("/linux/rootfsPropagation"))
	}
}

func harmlessDevice(d deviceRule) bool {
	switch d.node {
	case "/dev/char/1:3", "/dev/char/1:5", "/dev/char/1:7", "/dev/char/1:8", "/dev/char/1:9",
		"/dev/char/5:0", "/dev/char/5:2", "char-136":
		return true
	}
	// Making a node without being allowed to open it is harmless.
	return d.access == "m"
}

// askHostFiles notes what is installed on the host.
func (r *renderer) askHostFiles() {
	for _, f := range r.out.HostFiles {
		why := hostfsDir + f.Path
		byDefault := r.hostfsByDefault(f.Path)
		if detour := r.detour(path.Dir(f.Path)); detour != "" {
			byDefault = false
			why += " (" + detour + ")"
		}
		if f.Mode&fs.ModeSymlink != 0 {
			target := f.Target
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(f.Path), target)
			}
			byDefault = byDefault && (r.hostfsByDefault(target) || r.pathByDefault(target, false))
			why += " -> " + f.Target
		}
		r.ask("hostfs:"+f.Path, byDefault, why)
		if f.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			r.ask("setuid:"+f.Path, false, fmt.Sprintf("%s (mode %v, owner %d:%d)", why, f.Mode, f.UID, f.GID))
		}
	}
}

// askTmpfiles notes the lines of the tmpfiles template that reach beyond the
// container's own directories.
func (r *renderer) askTmpfiles() {
	for _, l := range r.tmpLines {
		why := r.tmpText.where(l.offset)
		// The last component is safe: systemd-tmpfiles follows no symlink there.
		detour := r.detour(path.Dir(l.path))
		byDefault := detour == "" && r.own(l.path) && !strings.Contains(l.path, "%")
		switch l.kind[0] {
		case 'd', 'D', 'e', 'v', 'q', 'Q', 'f', 'F', 'p', 'x', 'X', 'r', 'R', 'z', 'Z':
		case 'L', 'C':
			byDefault = byDefault && l.arg != "" && (r.own(l.arg) || r.pathByDefault(l.arg, false))
		default:
			byDefault = false
		}
		note := " (" + l.kind + ")"
		if detour != "" {
			note = " (" + l.kind + ", " + detour + ")"
		}
		r.ask("tmpfiles:"+l.path, byDefault, why+note)
		if m := strings.TrimLeft(l.mode, "~:"); len(m) == 4 && m[0] != '0' && m[0] != '1' || len(m) == 5 && m[1] != '0' && m[1] != '1' {
			if l.kind[0] != 'd' && l.kind[0] != 'D' || m[len(m)-4] >= '4' {
				r.ask("setuid:"+l.path, false, why)
			}
		}
	}
}

// askPorts notes the ports that the image says it listens on.
func (r *renderer) askPorts(config ispec.ImageConfig) {
	for _, p := range slices.Sorted(maps.Keys(config.ExposedPorts)) {
		r.ask("port:"+p, true, "the image's ExposedPorts")
	}
}
