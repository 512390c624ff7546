// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/internal/paths"
)

// machined looks for a container's system bus at machinedBus, the old prefix
// included. What it finds there in a container of ours is a socket of the host
// behind which the launcher serves `machinectl login` and `machinectl shell`.
const (
	machinedBus = "/var/run/dbus"
	ownBus      = "/run/dbus"
	// hostBusDirectory is where a container finds the host's own bus if it asks
	// for it: never at the usual place, as machined would take it for the
	// container's and open sessions on the host.
	hostBusDirectory = "/.host-dbus"
)

// loginBus gives the container the login bus, and takes the host's bus away
// from where it would be mistaken for the container's.
func (r *renderer) loginBus(spec *rspec.Spec) {
	exposed := r.moveHostBus(spec)
	r.out.Login = r.in.Host.Machined && (exposed || !r.hasOwnBus(spec))
	r.out.Bus = r.out.Login || exposed
	if !r.out.Bus {
		return
	}
	for _, dest := range r.busPlaces() {
		spec.Mounts = append(spec.Mounts, bindReadOnly(paths.Host{}.Bus(r.in.Name), dest))
	}
	if r.out.Login {
		r.out.BusSocket, r.out.BusService = r.busUnitFiles(spec)
	}
}

// busPlaces are the directories of the container where programs look for the
// system bus: one if /var/run leads to /run, as it should.
func (r *renderer) busPlaces() []string {
	places := []string{r.resolve(ownBus)}
	if p := r.resolve(machinedBus); !slices.Contains(places, p) {
		places = append(places, p)
	}
	return places
}

// hasOwnBus reports whether the container is to have a system bus of its own,
// so that machined needs no other: the image says so with the label
// atomic.login, or it has a bus daemon, or the configuration mounts something
// there.
func (r *renderer) hasOwnBus(spec *rspec.Spec) bool {
	switch strings.ToLower(Label(r.in.ImageConfig.Config.Labels, "atomic.login")) {
	case "no", "false", "0":
		return true
	case "yes", "true", "1":
		return false
	}
	for _, m := range spec.Mounts {
		if slices.ContainsFunc(r.busPlaces(), func(p string) bool { return within(r.resolve(m.Destination), p) }) {
			return true
		}
	}
	for _, daemon := range []string{"/usr/bin/dbus-daemon", "/usr/bin/dbus-broker", "/bin/dbus-daemon"} {
		if _, ok := r.lookup(r.resolve(daemon)); ok {
			return true
		}
	}
	return false
}

// moveHostBus finds every way in which the configuration would put the host's
// bus at the container's usual place, and puts it elsewhere. It reports whether
// something that shows the host's bus there has to be mounted over.
func (r *renderer) moveHostBus(spec *rspec.Spec) (exposed bool) {
	moved := false
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		dest := r.resolve(m.Destination)
		if !isBind(*m) || !within(hostPath(m.Source), ownBus) {
			continue
		}
		for _, place := range r.busPlaces() {
			if within(dest, place) {
				m.Destination = path.Join(hostBusDirectory, strings.TrimPrefix(dest, place))
				moved = true
				break
			}
		}
	}
	for _, place := range r.busPlaces() {
		if m := r.showsHostBus(spec, place); m != nil {
			exposed = true
			r.unshare(m)
		}
	}
	if !moved && !exposed {
		return false
	}
	if !moved {
		spec.Mounts = append(spec.Mounts, rspec.Mount{
			Destination: hostBusDirectory, Type: "bind", Source: ownBus,
			Options: []string{"bind", "rw", "nosuid", "nodev", "noexec"},
		})
	}
	setEnv(spec.Process, "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+hostBusDirectory+"/system_bus_socket")
	r.warnf("the container finds the host's D-Bus at %s: %s is its own", hostBusDirectory, ownBus)
	return exposed
}

// showsHostBus returns the mount by which the host's bus is seen at a place of
// the container, or nil.
func (r *renderer) showsHostBus(spec *rspec.Spec, place string) *rspec.Mount {
	var by *rspec.Mount
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		dest := r.resolve(m.Destination)
		if !within(place, dest) {
			continue
		}
		by = nil
		if isBind(*m) && hostPath(path.Join(m.Source, strings.TrimPrefix(place, dest))) == ownBus {
			by = m
		}
	}
	return by
}

// unshare keeps a mount of ours on top of m from reaching the host.
func (r *renderer) unshare(m *rspec.Mount) {
	for i, o := range m.Options {
		if o == "shared" || o == "rshared" {
			m.Options[i] = "rslave"
			r.warnf("mount %s is not %s: what the container mounts over the host's D-Bus would reach the host", m.Destination, o)
		}
	}
}

// pollLimitSystemd is the first systemd that lets connections wait if there are
// too many of them.
const pollLimitSystemd = 255

// busUnitFiles renders the socket of the login bus and the service that answers
// one connection. A payload can open connections as it likes, so both are
// bounded: how many at a time and in which time, for how long, with how much
// memory.
//
// The payload must not be able to close the socket for everybody, which systemd
// does when it is triggered more often than TriggerLimitBurst=, 200 times in 2 s,
// allows. From systemd 255 on connections wait in the queue before that. Older
// ones close it, and it is opened again two seconds later, as after any other
// failure. The pauses and the queue are short because machined waits in it, too.
func (r *renderer) busUnitFiles(spec *rspec.Spec) (socket, service []byte) {
	var b strings.Builder
	name := r.in.Name
	head := func(description string) {
		fmt.Fprintf(&b, "# Written by atomic for the container %s. Changes are lost at its next update.\n[Unit]\n", name)
		fmt.Fprintf(&b, "Description=%s of container %s\nDocumentation=man:atomic-machinectl(7)\nDefaultDependencies=no\n", description, name)
	}
	head("Sockets for machinectl")
	b.WriteString("StartLimitIntervalSec=0\n") // as often as the container
	fmt.Fprintf(&b, "OnFailure=atomic-bus-reopen@%s.service\n", name)
	if r.outlives() {
		outliveHelper(&b)
	}
	fmt.Fprintf(&b, "\n[Socket]\nListenStream=%s\nListenStream=%s\n", paths.Host{}.BusSocket(name), paths.Host{}.Control(name))
	b.WriteString("Accept=yes\nSocketMode=0600\nDirectoryMode=0755\nMaxConnections=16\nBacklog=4\nRemoveOnStop=yes\n")
	if r.in.Host.Systemd >= pollLimitSystemd {
		b.WriteString("PollLimitIntervalSec=250ms\nPollLimitBurst=5\n")
	}
	if uid, gid, ok := hostRoot(spec); ok {
		// machined connects as the container's root.
		fmt.Fprintf(&b, "ExecStartPost=/bin/chown %d:%d %s\n", uid, gid, paths.Host{}.BusSocket(name))
	}
	socket = []byte(b.String())
	b.Reset()
	head("Call by machinectl")
	b.WriteString("CollectMode=inactive-or-failed\nStartLimitIntervalSec=0\n\n[Service]\n")
	fmt.Fprintf(&b, "ExecStart=-%s bus %s\n", r.in.Host.Launcher, name)
	b.WriteString("StandardInput=socket\nStandardOutput=journal\nStandardError=journal\n")
	fmt.Fprintf(&b, "SyslogIdentifier=%s\nSyslogLevel=notice\nLogLevelMax=notice\nLogExtraFields=%s\n", name, quoteWord("CONTAINER_NAME="+name))
	b.WriteString("Slice=atomic.slice\nRuntimeMaxSec=10\nMemoryMax=128M\nTasksMax=64\n")
	return socket, []byte(b.String())
}

// hostRoot returns who the container's root is on the host, if it has a user
// namespace.
func hostRoot(spec *rspec.Spec) (uid, gid uint32, ok bool) {
	find := func(maps []rspec.LinuxIDMapping) (uint32, bool) {
		for _, m := range maps {
			if m.ContainerID == 0 {
				return m.HostID, true
			}
		}
		return 0, false
	}
	if namespace(spec, rspec.UserNamespace) == nil {
		return 0, 0, false
	}
	uid, ok = find(spec.Linux.UIDMappings)
	gid, _ = find(spec.Linux.GIDMappings)
	return uid, gid, ok
}
