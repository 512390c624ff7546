// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/internal/paths"
)

// notifyMount adds the private notification socket of a payload that reports
// readiness itself, and returns the socket's path in the container.
func (r *renderer) notifyMount(spec *rspec.Spec) string {
	dir := "/run/host"
	for _, m := range spec.Mounts {
		if within(dir, r.resolve(m.Destination)) {
			dir = "/.host"
		}
	}
	spec.Mounts = append(spec.Mounts, bindReadOnly(relayDirectory(r.in.Name), dir))
	socket := dir + "/notify"
	setEnv(spec.Process, "NOTIFY_SOCKET="+socket)
	return socket
}

// bindReadOnly shows the container something of the host that is no program.
func bindReadOnly(source, destination string) rspec.Mount {
	return rspec.Mount{
		Destination: destination, Type: "bind", Source: source,
		Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"},
	}
}

// setEnv gives the payload a variable, NAME=VALUE, in place of another value.
func setEnv(p *rspec.Process, variable string) {
	name, _, _ := strings.Cut(variable, "=")
	p.Env = slices.DeleteFunc(p.Env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
	p.Env = append(p.Env, variable)
}

// relayDirectory holds that socket on the host.
func relayDirectory(name string) string { return paths.Host{}.Run(name) + "/host" }

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// resolve follows the image's symlinks in every component of p, as the
// launcher will. Where the image has nothing the rest is kept as it is.
func (r *renderer) resolve(p string) string {
	todo := strings.Split(strings.Trim(p, "/"), "/")
	done := "/"
	for links := 0; len(todo) > 0; {
		c := todo[0]
		todo = todo[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, c)
		e, ok := r.lookup(next)
		if !ok || e.Mode&fs.ModeSymlink == 0 || links >= 40 {
			done = next
			continue
		}
		links++
		if path.IsAbs(e.Target) {
			done = "/"
		}
		todo = append(strings.Split(e.Target, "/"), todo...)
	}
	return done
}

func (r *renderer) lookup(p string) (Entry, bool) {
	if p == "/" {
		return Entry{Mode: fs.ModeDir | 0o755}, true
	}
	if r.in.Exports.Lookup == nil {
		return Entry{}, false
	}
	return r.in.Exports.Lookup(p)
}

// mountPoints lists what must be added to the image so that every mount has a
// place, parents before children. A mount below an earlier mount finds its
// place there, not in the image.
func (r *renderer) mountPoints(spec *rspec.Spec) []MountPoint {
	var points []MountPoint
	have := map[string]bool{}
	covered := map[string]rspec.Mount{}
	for i, m := range spec.Mounts {
		dest := r.resolve(m.Destination)
		if over, ok := covering(covered, dest); ok {
			if over == dest {
				covered[dest] = m // the later mount is what is seen there
				continue
			}
			if dest = r.hostLink(covered[over], over, dest); dest == "" {
				continue
			}
			if _, ok := covering(covered, dest); ok {
				continue
			}
		}
		dir, known := r.sourceIsDir(m)
		if e, ok := r.lookup(dest); ok {
			if known && e.Mode.IsDir() != dir {
				r.probs.add(r.config.problem(r.offset(fmt.Sprintf("/mounts/%d", i)),
					"cannot mount %s on %s: one is a directory, the other is not", m.Source, m.Destination))
			}
			covered[dest] = m
			continue
		}
		covered[dest] = m
		var parents []string
		for p := path.Dir(dest); p != "/"; p = path.Dir(p) {
			if e, ok := r.lookup(p); ok {
				if !e.Mode.IsDir() {
					r.probs.add(r.config.problem(r.offset(fmt.Sprintf("/mounts/%d", i)),
						"cannot mount on %s: %s is not a directory in the image", m.Destination, p))
				}
				break
			}
			parents = append(parents, p)
		}
		slices.Reverse(parents)
		for _, p := range parents {
			if !have[p] {
				have[p] = true
				points = append(points, MountPoint{Path: p, Dir: true})
			}
		}
		if !have[dest] {
			have[dest] = true
			points = append(points, MountPoint{Path: dest, Dir: dir})
		}
	}
	return points
}

// covering returns the innermost mount that dest is on or below.
func covering(mounts map[string]rspec.Mount, dest string) (over string, ok bool) {
	for over = dest; ; over = path.Dir(over) {
		if _, ok := mounts[over]; ok || over == "/" {
			return over, ok
		}
	}
}

// hostLink returns where the runtime really mounts at dest, which is below
// what m brings from the host to over: if the host has a symlink there, the
// runtime follows it, inside the image. "" is dest itself.
func (r *renderer) hostLink(m rspec.Mount, over, dest string) string {
	if !isBind(m) || r.in.Host.Readlink == nil {
		return ""
	}
	target, ok := r.in.Host.Readlink(path.Join(m.Source, strings.TrimPrefix(dest, over)))
	if !ok {
		return ""
	}
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(dest), target)
	}
	return r.resolve(target)
}

// sourceIsDir says whether a mount needs a directory to be mounted on, and
// whether that is certain. A source that does not exist yet becomes a
// directory, unless tmpfiles makes it a file or the image has a file there.
func (r *renderer) sourceIsDir(m rspec.Mount) (dir, known bool) {
	if !isBind(m) {
		return true, true
	}
	if kind, ok := r.made[m.Source]; ok {
		return kind == 'd', true
	}
	if r.in.Host.IsDir != nil {
		if dir, exists := r.in.Host.IsDir(m.Source); exists {
			return dir, true
		}
	}
	if e, ok := r.lookup(r.resolve(m.Destination)); ok {
		return e.Mode.IsDir(), false
	}
	return true, false
}
