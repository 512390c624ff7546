// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/hint"
)

// allArchitectures is the annotation with which an image asks for its seccomp
// profile on every architecture the profile names. Without it only the native
// one is allowed, because compiling the others costs 25 ms at every start.
const allArchitectures = "org.atomic.seccomp.all-architectures"

// parseSpec reads the deployment's config.json.
func (d *deployment) parseSpec() (*specs.Spec, error) {
	spec := new(specs.Spec)
	if err := json.Unmarshal(d.config, spec); err != nil {
		return nil, fmt.Errorf("read config.json of %q: %w", d.name, err)
	}
	switch {
	case spec.Process == nil || len(spec.Process.Args) == 0:
		return nil, fmt.Errorf("read config.json of %q: process.args is empty", d.name)
	case !path.IsAbs(spec.Process.Cwd):
		return nil, fmt.Errorf("read config.json of %q: process.cwd %q is not absolute", d.name, spec.Process.Cwd)
	case spec.Linux == nil:
		return nil, fmt.Errorf("read config.json of %q: there is no linux section", d.name)
	}
	return spec, nil
}

// adapt makes config.json that of a start on this host: its root file system is
// the deployment's, and what the unit does instead of the runtime is taken out,
// cgroups, their limits and device rules.
func (d *deployment) adapt(spec *specs.Spec, log *slog.Logger) {
	readonly := spec.Root != nil && spec.Root.Readonly
	spec.Root = &specs.Root{Path: d.rootfs(), Readonly: readonly}
	spec.Linux.Resources, spec.Linux.CgroupsPath = nil, ""
	dropLabels(spec, log)
}

// nativeOnly reports whether the seccomp filter is for the native architecture
// alone, whichever ones it names.
func nativeOnly(spec *specs.Spec) bool {
	p := spec.Linux.Personality
	return spec.Annotations[allArchitectures] == "" && (p == nil || p.Domain != specs.PerLinux32)
}

// convert translates config.json for libcontainer.
func (d *deployment) convert(spec *specs.Spec, log *slog.Logger) (*configs.Config, error) {
	d.adapt(spec, log)
	spec.Linux.CgroupsPath = noCgroup
	cfg, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: d.name, Spec: spec})
	if err != nil {
		return nil, hint.New(fmt.Errorf("translate config.json of %q: %w", d.name, err),
			"the image's configuration template asks for something the runtime does not have")
	}
	// specconv adds the rules of the default devices; DevicePolicy= and
	// DeviceAllow= of the unit do that job, and their nodes are kept.
	cfg.Cgroups.Resources = &cgroups.Resources{}
	// Only now: an architecture that there is not is an error all the same.
	if cfg.Seccomp != nil && nativeOnly(spec) {
		cfg.Seccomp.Architectures = nil
	}
	return cfg, nil
}

// dropLabels takes out what a kernel without the module would refuse. The
// container then has the confinement such a kernel can give. log may be nil
// where that has been said before.
func dropLabels(spec *specs.Spec, log *slog.Logger) {
	if !selinux.GetEnabled() && (spec.Process.SelinuxLabel != "" || spec.Linux.MountLabel != "") {
		warn(log, "SELinux is not enabled on this host, ignoring the labels in config.json")
		spec.Process.SelinuxLabel, spec.Linux.MountLabel = "", ""
	}
	if spec.Process.ApparmorProfile == "" {
		return
	}
	if on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || !strings.HasPrefix(string(on), "Y") {
		warn(log, "AppArmor is not enabled on this host, ignoring the profile in config.json", "profile", spec.Process.ApparmorProfile)
		spec.Process.ApparmorProfile = ""
	}
}

func warn(log *slog.Logger, msg string, args ...any) {
	if log != nil {
		log.Warn(msg, args...)
	}
}

// process translates the process section. Its stdio is the unit's.
func process(p *specs.Process) (*libcontainer.Process, error) {
	lp := &libcontainer.Process{
		Args:            p.Args,
		Env:             p.Env,
		UID:             int(p.User.UID),
		GID:             int(p.User.GID),
		Cwd:             p.Cwd,
		Label:           p.SelinuxLabel,
		NoNewPrivileges: &p.NoNewPrivileges,
		AppArmorProfile: p.ApparmorProfile,
		Scheduler:       p.Scheduler,
		IOPriority:      p.IOPriority,
		Stdin:           os.Stdin,
		Stdout:          os.Stdout,
		Stderr:          os.Stderr,
	}
	if c := p.Capabilities; c != nil {
		lp.Capabilities = &configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable,
			Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	for _, g := range p.User.AdditionalGids {
		lp.AdditionalGroups = append(lp.AdditionalGroups, int(g))
	}
	for _, r := range p.Rlimits {
		kind, ok := rlimits[r.Type]
		if !ok {
			return nil, fmt.Errorf("translate config.json: unknown limit %q", r.Type)
		}
		lp.Rlimits = append(lp.Rlimits, configs.Rlimit{Type: kind, Hard: r.Hard, Soft: r.Soft})
	}
	var err error
	if lp.CPUAffinity, err = configs.ConvertCPUAffinity(p.ExecCPUAffinity); err != nil {
		return nil, fmt.Errorf("translate config.json: %w", err)
	}
	return lp, nil
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// libcontainerConfig is a configuration of libcontainer, which keeps the
// payload's environment elsewhere.
func libcontainerConfig(cfg *configs.Config, env []string) engineConfig {
	return engineConfig{
		env:         env,
		privatePIDs: cfg.Namespaces.IsPrivate(configs.NEWPID),
		userNS:      cfg.Namespaces.IsPrivate(configs.NEWUSER),
		hasTmpfs: func(target string) bool {
			return slices.ContainsFunc(cfg.Mounts, func(m *configs.Mount) bool {
				return path.Clean(m.Destination) == target && m.Device == "tmpfs"
			})
		},
		bind: func(source, target string, idmap bool) {
			m := &configs.Mount{
				Source: source, Destination: target, Device: "bind",
				Flags: unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC,
			}
			if idmap {
				m.IDMapping = &configs.MountIDMapping{UIDMappings: cfg.UIDMappings, GIDMappings: cfg.GIDMappings}
			}
			cfg.Mounts = append(cfg.Mounts, m)
		},
	}
}
