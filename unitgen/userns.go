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

// IDRange are the user and group IDs of one container on the host: 0 to Count-1
// inside are First to First+Count-1 outside.
type IDRange struct{ First, Count uint32 }

// userNamespace gives a generated configuration a user namespace, in which the
// payload's root is nobody on the host. An image that brings a configuration
// has said itself what it wants.
func (r *renderer) userNamespace(spec *rspec.Spec) {
	switch o := r.in.Options.UserNS; o {
	case "", "auto":
	case "host":
		return
	default:
		r.probs.addf("--userns", 0, 0, "%q is neither auto nor host", o)
		return
	}
	if r.in.IDs == nil && r.in.Host.NoUserNS == "" {
		return // the caller gives no IDs and says no more
	}
	if why := r.noUserNamespace(spec); why != "" {
		r.warnf("no user namespace, root in the container is root of the host: %s", why)
		return
	}
	ids := *r.in.IDs
	r.out.IDs = &ids
	l := spec.Linux
	l.Namespaces = append(l.Namespaces, rspec.LinuxNamespace{Type: rspec.UserNamespace})
	l.UIDMappings = []rspec.LinuxIDMapping{{ContainerID: 0, HostID: ids.First, Size: ids.Count}}
	l.GIDMappings = slices.Clone(l.UIDMappings)
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		switch {
		case m.Type == "sysfs":
			// The host's network belongs to the host's user namespace, and so
			// does the sysfs that shows it: it can be bound but not mounted.
			*m = rspec.Mount{
				Destination: m.Destination, Type: "bind", Source: "/sys",
				Options: []string{"rbind", "rro", "nosuid", "noexec", "nodev"},
			}
		case isBind(*m) && writable(m.Options):
			// What the payload writes is its own inside and on the disk; the
			// IDs of a container can change without touching its data.
			m.Options = append(m.Options, "idmap")
			r.closeState(m.Source)
		}
	}
}

// closeState lets only root of the host into the container's state directory if
// source is below it. What the payload's root makes there belongs to the host's
// root, and a file with the setuid bit would be that to everybody who reaches
// it.
func (r *renderer) closeState(source string) {
	state := path.Join(r.values["STATE_DIRECTORY"], r.in.Name)
	if r.in.Exports.Tmpfiles != nil || !within(source, state) {
		return
	}
	open, closed := stateLine(state, "0755"), stateLine(state, "0700")
	if rest, ok := strings.CutPrefix(string(r.out.Tmpfiles), open); ok {
		r.out.Tmpfiles = []byte(closed + rest)
	} else if !strings.HasPrefix(string(r.out.Tmpfiles), closed) {
		r.out.Tmpfiles = []byte(closed + string(r.out.Tmpfiles))
	}
}

// noUserNamespace says why the container cannot have a user namespace, or "".
func (r *renderer) noUserNamespace(spec *rspec.Spec) string {
	if r.in.Host.NoUserNS != "" {
		return r.in.Host.NoUserNS
	}
	u := spec.Process.User
	for _, id := range append([]uint32{u.UID, u.GID}, u.AdditionalGids...) {
		if id >= r.in.IDs.Count {
			return fmt.Sprintf("the image's user has the ID %d, and %d are mapped", id, r.in.IDs.Count)
		}
	}
	for _, m := range spec.Mounts {
		if r.in.Host.CanIDMap != nil && isBind(m) && writable(m.Options) {
			if err := r.in.Host.CanIDMap(m.Source); err != nil {
				return err.Error()
			}
		}
	}
	if namespace(spec, rspec.NetworkNamespace) == nil {
		if p := r.lowPort(); p != 0 {
			return fmt.Sprintf("port %d is for services without one, in the host's network", p)
		}
	}
	return ""
}

// lowPort returns a port of the payload that only the host's own user
// namespace may listen on, or 0.
func (r *renderer) lowPort() int {
	from := r.in.Host.UnprivilegedPort
	if from == 0 {
		from = 1024
	}
	ports := slices.Clone(r.in.Options.Publish)
	for p := range r.in.ImageConfig.Config.ExposedPorts {
		ports = append(ports, p)
	}
	slices.Sort(ports)
	for _, p := range ports {
		p, _, _ = strings.Cut(p, "/")
		p = p[strings.LastIndexByte(p, ':')+1:]
		low, _, _ := strings.Cut(p, "-")
		if n, err := strconv.Atoi(low); err == nil && n > 0 && n < from {
			return n
		}
	}
	return 0
}
