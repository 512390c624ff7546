// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// Options are what the administrator adds to what the image says, for images
// with and without templates. What they ask of the host needs no grant: the
// administrator asked for it.
type Options struct {
	// Env are NAME=VALUE.
	Env []string
	// Volumes are SOURCE:DESTINATION[:ro|rw]. A source without a slash is a
	// directory of the container's own state.
	Volumes []string
	// Publish are PORT[/PROTOCOL], or HOSTPORT:PORT[/PROTOCOL] with both the
	// same as long as the container shares the host's network.
	Publish []string
	// Properties are KEY=VALUE: any property of [Service] or [Unit] that does
	// not take the container out of atomic's hands.
	Properties []string
	// UserNS is "auto" (also when empty: a user namespace if nothing is against
	// it) or "host" (none). It is for images without a configuration of their
	// own.
	UserNS string
	// Init is "yes" if the payload gets a process 1 that reaps orphans and
	// passes signals on, "no" if the payload is process 1; "auto" and empty mean
	// the former for an image without a configuration whose entrypoint is a shell
	// script.
	Init string
	// Isolation is oci, native or fly; empty means oci.
	Isolation string
	// SurviveSoftReboot is "yes" if the container stays as it is while the
	// host's user space restarts; "no" and empty mean that it stops.
	SurviveSoftReboot string
	// HealthOnFailure is "restart" if systemd restarts the container when it is
	// unhealthy; "none" and empty mean that this is reported only.
	HealthOnFailure string
	// Runtime is the absolute path of the OCI runtime that makes the container;
	// OwnRuntime, and empty if the host's configuration names none, mean that
	// the launcher does.
	Runtime string
}

// OwnRuntime is the Runtime that is none but atomic itself.
const OwnRuntime = "atomic"

// options applies the administrator's additions to the configuration.
func (r *renderer) options(spec *rspec.Spec) {
	o := r.in.Options
	for _, e := range o.Env {
		key, _, ok := strings.Cut(e, "=")
		if !ok || key == "" || strings.ContainsRune(e, 0) {
			r.probs.addf("--env", 0, 0, "%q is not NAME=VALUE", e)
			continue
		}
		setEnv(spec.Process, e)
	}
	for _, v := range o.Volumes {
		m, err := r.volumeOption(v)
		if err != nil {
			r.probs.addf("--volume", 0, 0, "%q %v", v, err)
			continue
		}
		// A volume that the image declares gives way.
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(old rspec.Mount) bool {
			return isBind(old) && path.Clean(old.Destination) == m.Destination
		})
		spec.Mounts = append(spec.Mounts, m)
		r.volumeSources = append(r.volumeSources, m.Source)
	}
	r.addInit(spec)
	shared := spec.Linux == nil || namespace(spec, rspec.NetworkNamespace) == nil
	for _, p := range o.Publish {
		if port, err := publishOption(p, shared); err != nil {
			r.probs.addf("--publish", 0, 0, "%q %v", p, err)
		} else {
			r.ask("port:"+port, true, "--publish")
		}
	}
}

// Whether a payload gets a process 1, besides "no".
const (
	InitYes  = "yes"
	InitAuto = "auto"
)

// initInside is where the container finds its process 1.
const initInside = "/.atomic-init"

// initProgram is that program on the host, beside the launcher.
func (r *renderer) initProgram() string { return path.Dir(r.in.Host.Launcher) + "/atomic-init" }

// addInit puts a process 1 of ours before the payload.
func (r *renderer) addInit(spec *rspec.Spec) {
	if len(spec.Process.Args) == 0 {
		return // which is a problem of its own
	}
	switch r.in.Options.Init {
	case "no":
		return
	case "", InitAuto:
		if !r.generated || r.isolation() != IsolationOCI || !r.staysShell(spec) {
			return
		}
		r.out.Init = InitAuto
	case InitYes:
		r.out.Init = InitYes
	default:
		r.probs.addf("--init", 0, 0, "%q is none of auto, yes and no", r.in.Options.Init)
		return
	}
	spec.Process.Args = append([]string{initInside}, spec.Process.Args...)
	spec.Mounts = append(spec.Mounts, rspec.Mount{
		Destination: initInside, Type: "bind", Source: r.initProgram(), Options: []string{"bind", "ro", "nosuid", "nodev"},
	})
	r.made[r.initProgram()] = 'f'
}

func (r *renderer) volumeOption(v string) (rspec.Mount, error) {
	src, rest, ok := strings.Cut(v, ":")
	dst, mode, hasMode := strings.Cut(rest, ":")
	switch {
	case !ok || src == "" || strings.ContainsFunc(v, isControl):
		return rspec.Mount{}, fmt.Errorf("is not SOURCE:DESTINATION[:ro|rw]")
	case !path.IsAbs(dst) || path.Clean(dst) == "/":
		return rspec.Mount{}, fmt.Errorf("has the destination %q, which is no place in the container", dst)
	case hasMode && mode != "ro" && mode != "rw":
		return rspec.Mount{}, fmt.Errorf("has the mode %q: ro and rw are", mode)
	case !path.IsAbs(src) && (strings.Contains(src, "/") || src == "." || src == ".."):
		return rspec.Mount{}, fmt.Errorf("has the source %q: an absolute path or a plain name is one", src)
	}
	if !path.IsAbs(src) {
		src = path.Join(r.values["STATE_DIRECTORY"], r.in.Name, src)
	}
	if mode == "" {
		mode = "rw"
	}
	return rspec.Mount{
		Destination: path.Clean(dst), Type: "bind", Source: path.Clean(src),
		Options: []string{"rbind", mode, "nosuid", "nodev"},
	}, nil
}

// VolumeDestination is where a --volume is mounted.
func VolumeDestination(v string) string {
	_, rest, _ := strings.Cut(v, ":")
	dst, _, _ := strings.Cut(rest, ":")
	return path.Clean(dst)
}

// publishOption parses a published port. A container in the host's network
// cannot listen on one port and be reached on another.
func publishOption(p string, shared bool) (port string, err error) {
	ports, proto, ok := strings.Cut(p, "/")
	if !ok {
		proto = "tcp"
	}
	if proto != "tcp" && proto != "udp" && proto != "sctp" {
		return "", fmt.Errorf("has the protocol %q: tcp, udp and sctp are", proto)
	}
	host, inside, ok := strings.Cut(ports, ":")
	if !ok {
		inside = host
	}
	for _, s := range []string{host, inside} {
		if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("has the port %q: 1 to 65535 are", s)
		}
	}
	if shared && host != inside {
		return "", fmt.Errorf("maps a port: the container shares the host's network and is reached where it listens")
	}
	return host + "/" + proto, nil
}

// handOver are the settings by which atomic hands the process over to
// systemd. Changing them would leave a container that nobody supervises.
var handOver = strings.Fields(`Type NotifyAccess PIDFile GuessMainPID ExecStart ExecStop ExecCondition RootDirectory
	RootImage RootHash User Group DynamicUser RemainAfterExit BusName ExitType Delegate DelegateSubgroup
	PrivateUsers PrivatePIDs`)

// properties returns the administrator's properties as lines of [Unit] and of
// [Service].
func (r *renderer) properties() (unit, service []string) {
	for _, p := range r.in.Options.Properties {
		key, value, ok := strings.Cut(p, "=")
		isLetter := func(c rune) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
		switch {
		case !ok || key == "" || strings.TrimLeftFunc(key, isLetter) != "":
			r.probs.addf("--property", 0, 0, "%q is not KEY=VALUE", p)
		case strings.ContainsFunc(value, isControl) || continued(value):
			r.probs.addf("--property", 0, 0, "the value of %s= does not fit on one line", key)
		case slices.Contains(handOver, key):
			r.probs.addf("--property", 0, 0, "%s= is atomic's own: it decides how the container is handed over to systemd", key)
		case isUnitKey(key):
			unit = append(unit, p)
		default:
			service = append(service, p)
		}
	}
	return unit, service
}

func isUnitKey(key string) bool {
	return slices.Contains(harmlessSettings["Unit"], key) && !slices.Contains(harmlessSettings["Service"], key) ||
		strings.HasPrefix(key, "Condition") || strings.HasPrefix(key, "Assert") ||
		slices.Contains([]string{"Conflicts", "FailureAction", "SuccessAction", "StartLimitAction", "JobTimeoutAction", "JoinsNamespaceOf", "PropagatesReloadTo", "PropagatesStopTo"}, key)
}
