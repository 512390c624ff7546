// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// imageConfigFile names the image's OCI configuration in problems.
const imageConfigFile = "image configuration"

// fillConfig completes the default configuration with what the image says
// about itself: command, environment, user, working directory and volumes.
func (r *renderer) fillConfig(spec *rspec.Spec, c ispec.ImageConfig) {
	p := spec.Process
	p.Args = slices.Concat(c.Entrypoint, c.Cmd)
	if len(p.Args) == 0 {
		p.Args = []string{"run.sh"} // the contract's default
	}
	for _, e := range c.Env {
		setEnv(p, e)
	}
	if c.WorkingDir != "" {
		p.Cwd = c.WorkingDir
	}
	u, home, err := r.imageUser(c.User)
	if err != nil {
		r.probs.addf(imageConfigFile, 0, 0, "User %q: %v", c.User, err)
	}
	p.User = u
	spec.Hostname = r.in.Name
	if home != "" && !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		p.Env = append(p.Env, "HOME="+home)
	}
	if caps := p.Capabilities; caps != nil {
		if u.UID == 0 {
			caps.Effective, caps.Permitted = slices.Clone(caps.Bounding), slices.Clone(caps.Bounding)
		} else if slices.Contains(caps.Bounding, "CAP_NET_BIND_SERVICE") {
			// What an unprivileged payload cannot do without, and nothing else.
			only := []string{"CAP_NET_BIND_SERVICE"}
			*caps = rspec.LinuxCapabilities{Bounding: only, Effective: only, Permitted: only, Inheritable: only, Ambient: only}
		}
	}
	for _, f := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		if r.isFile(f) {
			spec.Mounts = append(spec.Mounts, bindReadOnly(f, f))
		}
	}
	r.volumes(spec, c)
	var caps []string
	if p.Capabilities != nil {
		caps = p.Capabilities.Bounding
	}
	spec.Linux.Seccomp = defaultSeccomp(r.in.ImageConfig.Architecture, caps)
}

// isFile reports whether the host has a file that can be mounted: a dangling
// symlink cannot.
func (r *renderer) isFile(p string) bool {
	if r.in.Host.IsDir == nil {
		return false
	}
	dir, exists := r.in.Host.IsDir(p)
	return exists && !dir
}

// volumes gives every volume of the image a directory of the container's own
// state directory, made by tmpfiles.
func (r *renderer) volumes(spec *rspec.Spec, c ispec.ImageConfig) {
	var b strings.Builder
	state := path.Join(r.values["STATE_DIRECTORY"], r.in.Name)
	for _, v := range slices.Sorted(maps.Keys(c.Volumes)) {
		if !path.IsAbs(v) || path.Clean(v) == "/" || strings.ContainsFunc(v, isControl) {
			r.probs.addf(imageConfigFile, 0, 0, "volume %q is not a directory of the image", v)
			continue
		}
		v = path.Clean(v)
		src := path.Join(state, unit.UnitNamePathEscape(v))
		if slices.ContainsFunc(r.in.Options.Volumes, func(o string) bool { return VolumeDestination(o) == v }) {
			continue // --volume takes its place
		}
		if b.Len() == 0 {
			b.WriteString(stateLine(state, "0755"))
		}
		fmt.Fprintf(&b, "d %s 0755 %d %d - -\n", quoteWord(src), spec.Process.User.UID, spec.Process.User.GID)
		r.made[src] = 'd'
		spec.Mounts = append(spec.Mounts, rspec.Mount{
			Destination: v, Type: "bind", Source: src, Options: []string{"rbind", "rw", "nosuid", "nodev"},
		})
	}
	if r.in.Exports.Tmpfiles == nil && b.Len() > 0 {
		r.out.Tmpfiles = []byte(b.String())
	}
}

// stateLine makes a container's state directory.
func stateLine(dir, mode string) string {
	return fmt.Sprintf("d %s %s root root - -\n", quoteWord(dir), mode)
}

// imageUser resolves the User of an image configuration: a name or number,
// with a group after a colon or the user's own from the image's passwd.
func (r *renderer) imageUser(s string) (u rspec.User, home string, err error) {
	name, group, hasGroup := strings.Cut(s, ":")
	if name == "" {
		name = "0"
	}
	uid, numeric := number(name)
	if !numeric && r.in.Exports.ReadFile == nil {
		return u, "", errors.New("the image's /etc/passwd cannot be read")
	}
	found := numeric
	for _, f := range r.database("/etc/passwd", 7) {
		id, ok := number(f[2])
		if !ok || f[0] != name && (!numeric || id != uid) {
			continue
		}
		uid, found, home = id, true, f[5]
		name = f[0]
		if gid, ok := number(f[3]); ok {
			u.GID = gid
		}
		break
	}
	if !found {
		return u, "", errors.New("the image's /etc/passwd has no such user")
	}
	u.UID = uid
	groups := r.database("/etc/group", 4)
	if hasGroup {
		gid, ok := number(group)
		for _, f := range groups {
			if id, isID := number(f[2]); isID && !ok && f[0] == group {
				gid, ok = id, true
			}
		}
		if !ok {
			return u, "", errors.New("the image's /etc/group has no such group")
		}
		u.GID = gid
		return u, home, nil
	}
	for _, f := range groups {
		if id, ok := number(f[2]); ok && id != u.GID && slices.Contains(strings.Split(f[3], ","), name) {
			u.AdditionalGids = append(u.AdditionalGids, id)
		}
	}
	return u, home, nil
}

// database reads one of the image's user databases; lines that are too short
// are skipped, as libc does.
func (r *renderer) database(name string, fields int) [][]string {
	if r.in.Exports.ReadFile == nil {
		return nil
	}
	content, err := r.in.Exports.ReadFile(r.resolve(name))
	if err != nil {
		return nil
	}
	var all [][]string
	for line := range strings.Lines(string(content)) {
		if f := strings.Split(strings.TrimRight(line, "\r\n"), ":"); len(f) >= fields && f[0] != "" {
			all = append(all, f)
		}
	}
	return all
}

func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n < math.MaxUint32
}
