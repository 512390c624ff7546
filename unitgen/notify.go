// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// How a payload's notifications reach systemd; see record.Start.
const (
	notifyLauncher = "launcher"
	notifyRelay    = "relay"
	notifyFilter   = "filter"
	notifyRaw      = "raw"
)

// notifyMode chooses the way of the payload's notifications. systemd believes
// uid 0 whatever it says, MAINPID= of any process of the host included, so a
// payload that is or may become the host's uid 0 never has systemd's own
// socket. Its READY=1 is relayed; if the unit wants to hear more later, that
// passes a filter.
func (r *renderer) notifyMode(spec *rspec.Spec) string {
	switch kind, _ := last(r.settings, "Service", "Type"); {
	case kind != "notify" && kind != "notify-reload":
		return notifyLauncher
	case !mayBeHostRoot(spec):
		return notifyRaw
	case kind == "notify-reload" || r.watched():
		return notifyFilter
	}
	return notifyRelay
}

// watched reports whether the unit has a watchdog.
func (r *renderer) watched() bool {
	value := r.inForce("WatchdogSec")
	return strings.Trim(value, " 0") != "" && value != "infinity"
}

// tame are the capabilities with which a process cannot become another user or
// speak for one.
var tame = []string{
	"CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_IPC_LOCK", "CAP_KILL", "CAP_LEASE", "CAP_NET_ADMIN",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_WAKE_ALARM",
}

// mayBeHostRoot reports whether a process of the container can have uid 0 of
// the host.
func mayBeHostRoot(spec *rspec.Spec) bool {
	if ns := namespace(spec, rspec.UserNamespace); ns != nil {
		return ns.Path != "" || len(spec.Linux.UIDMappings) == 0 ||
			slices.ContainsFunc(spec.Linux.UIDMappings, func(m rspec.LinuxIDMapping) bool { return m.HostID == 0 })
	}
	p := spec.Process
	return p.User.UID == 0 || !p.NoNewPrivileges || namespace(spec, rspec.PIDNamespace) == nil || p.Capabilities == nil ||
		slices.ContainsFunc(p.Capabilities.Bounding, func(c string) bool { return !slices.Contains(tame, c) })
}
