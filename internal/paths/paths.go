// SPDX-License-Identifier: Apache-2.0

// Package paths names every place on the host that atomic reads or writes.
//
// All of them hang off one root, so that a test, or an image build, can point
// the whole program at a directory of its own (--root, ATOMIC_ROOT). The
// package only joins strings: it creates, reads and checks nothing.
package paths

import (
	"path/filepath"
	"strconv"
)

// Launcher is the start path's program. Rendered units call it by this
// absolute name, which is inside the host and therefore not below a Root.
const Launcher = "/usr/libexec/atomic/atomic-launch"

// Starter is the small program that starts containers by their plans. A unit of
// a container that has one executes it.
const Starter = "/usr/libexec/atomic/atomic-start"

// Enter is the program that becomes the payload of a container with a plan.
const Enter = "/usr/libexec/atomic/atomic-enter"

// Host is the set of places below one root. The zero value is the running
// host itself.
type Host struct {
	// Root is prepended to every path; empty means "/".
	Root string
}

func (h Host) join(elem ...string) string {
	return filepath.Join(append([]string{"/", h.Root}, elem...)...)
}

// Path returns the place of an absolute host path below the root.
func (h Host) Path(abs string) string { return h.join(abs) }

// Containers is the directory of all deployments (contract with the original
// Project Atomic tool).
func (h Host) Containers() string { return h.join("var/lib/containers/atomic") }

// Current is the symlink NAME that names the container's current deployment.
func (h Host) Current(name string) string { return filepath.Join(h.Containers(), name) }

// Deployment is the directory NAME.N of one generation.
func (h Host) Deployment(name string, generation int) string {
	return filepath.Join(h.Containers(), name+"."+strconv.Itoa(generation))
}

// Store is the root of the image store.
func (h Host) Store() string { return filepath.Join(h.Containers(), ".store") }

// Intents is the directory of intent records, one file per container whose
// installation, update or removal is under way.
func (h Host) Intents() string { return filepath.Join(h.Containers(), ".intents") }

// Locks is the directory of per-container lock files.
func (h Host) Locks() string { return filepath.Join(h.Containers(), ".locks") }

// Units is the directory of rendered units: systemd.unit(5) searches it below
// /etc/systemd/system, so that edit, mask, preset and revert work on them.
func (h Host) Units() string { return h.join("etc/systemd/system.attached") }

// Tmpfiles is the directory of rendered tmpfiles.d(5) files.
func (h Host) Tmpfiles() string { return h.join("etc/tmpfiles.d") }

// Config is the main configuration file; ConfigDir holds its drop-ins.
func (h Host) Config() string { return h.join("etc/atomic/atomic.conf") }

// ConfigDir is the directory of *.conf drop-ins read after Config, in name order.
func (h Host) ConfigDir() string { return h.join("etc/atomic/atomic.conf.d") }

// Run is the run-time directory of one started container. systemd makes it
// (RuntimeDirectory=atomic/NAME) and removes it at stop.
func (h Host) Run(name string) string { return h.join("run/atomic", name) }

// Once is the deployment of a container that is run without being installed; no
// container's name begins with a dot.
func (h Host) Once(name string) string { return h.join("run/atomic/.once", name) }

// RunRoot holds the run-time directories of all started containers.
func (h Host) RunRoot() string { return h.join("run/atomic") }

// Notify is the socket of atomic-notify@NAME.socket.
func (h Host) Notify(name string) string { return h.join("run/atomic/.notify", name) }

// Bus is the directory of a container's login bus, which the container sees at
// /run/dbus. It is not below Run, which is gone while the container is stopped;
// the container sees the directory and not BusSocket, which may be made anew.
func (h Host) Bus(name string) string { return h.join("run/atomic/.bus", name) }

// BusSocket is the login bus itself.
func (h Host) BusSocket(name string) string { return filepath.Join(h.Bus(name), "system_bus_socket") }

// Control is the socket where machinectl (systemd 261 and later) asks for a
// container's stop, restart or pause. No container can see it.
func (h Host) Control(name string) string { return h.join("run/atomic/.control", name) }

// EventLog is the measurement log. It outlives every container, because the
// TPM register it explains does.
func (h Host) EventLog() string { return h.join("run/log/atomic/tpm2-measure.log") }

// Statements holds the start statements by digest.
func (h Host) Statements() string { return h.join("var/lib/atomic/attest/statements/sha256") }

// StatementsEarly holds start statements while Statements cannot be written.
// It is not below RunRoot, where a container could have its name.
func (h Host) StatementsEarly() string { return h.join("run/log/atomic/statements/sha256") }

// FirmwareLog is what the firmware and the boot loader measured, as the kernel
// shows it.
func (h Host) FirmwareLog() string {
	return h.join("sys/kernel/security/tpm0/binary_bios_measurements")
}
