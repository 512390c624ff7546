// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// The ways to isolate a container from the host; the first is the default.
const (
	// IsolationOCI is what config.json says, set up by the launcher.
	IsolationOCI = "oci"
	// IsolationNative is the same set up by systemd, as far as it can.
	IsolationNative = "native"
	// IsolationFly shares every namespace with the host but that of mounts.
	IsolationFly = "fly"
)

func (r *renderer) isolation() string {
	if r.in.Options.Isolation == "" {
		return IsolationOCI
	}
	return r.in.Options.Isolation
}

// isolate makes of a configuration what the administrator's way of isolation
// needs.
func (r *renderer) isolate(spec *rspec.Spec) {
	switch r.isolation() {
	case IsolationOCI, IsolationNative:
	case IsolationFly:
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = nil, nil
		spec.Linux.Namespaces = []rspec.LinuxNamespace{{Type: rspec.MountNamespace}}
		spec.Hostname, spec.Domainname = "", ""
		spec.Linux.TimeOffsets = nil
	default:
		r.probs.addf("--isolation", 0, 0, "%q is none of oci, native and fly", r.in.Options.Isolation)
	}
}
