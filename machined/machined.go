// SPDX-License-Identifier: Apache-2.0

// Package machined registers containers with systemd-machined(8) and removes
// them again.
//
// Registration never decides whether a container runs: a host without
// machined, or without D-Bus (early boot), starts containers all the same, and
// `atomic-launch register --pending` catches up when machined appears. Both
// calls are idempotent and may be repeated after a crash.
package machined

// Machine is one container as machined knows it.
type Machine struct {
	// Name is the container's name; it must be a valid host name.
	Name string
	// Unit is the service whose cgroup holds the leader. machined derives the
	// machine's unit from the leader's cgroup; Unit is used to recognise a
	// stale registration of our own.
	Unit string
	// Leader is the PID of the container's init, LeaderPIDFD a pidfd for it or -1.
	Leader      int
	LeaderPIDFD int
	// RootDirectory is the container's root file system on the host.
	RootDirectory string
	// NetworkInterfaces are host interface indexes that belong to the machine.
	NetworkInterfaces []int
}
