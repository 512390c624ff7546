// SPDX-License-Identifier: Apache-2.0

// Package record reads and writes a deployment's record, the file
// /var/lib/containers/atomic/NAME.N/info.
//
// The record is the one truth about a deployment: what was installed, from
// which image, with which values and grants, and how the launcher is to start
// it. `install` writes it last, once, before the deployment becomes current;
// nothing changes it afterwards. `agent/launch` reads it at every start, so
// this package imports nothing but the standard library.
//
// The format is JSON. The keys of Project Atomic's own `info` file are kept
// with their meaning; ours are in the object "atomic", which has a version
// field. See docs/formats/record.md.
package record

import "time"

// Version is the version of the "atomic" object that this package writes.
const Version = 1

// Record is the content of a deployment's info file.
type Record struct {
	// Image is the name the administrator installed from, fully qualified.
	Image string `json:"image"`
	// Revision is the image ID: the hex part of the manifest digest.
	Revision string `json:"revision"`
	// Created is the time of the deployment in seconds since the epoch.
	Created int64 `json:"created"`
	// Values are all values the templates were rendered with.
	Values map[string]string `json:"values"`
	// HasContainerService is false for images that only install host files.
	HasContainerService bool `json:"has-container-service"`
	// InstalledFiles are the host files of this deployment, in creation order;
	// InstalledFilesChecksum maps each to its SHA-256 in hex.
	InstalledFiles         []string          `json:"installed-files"`
	InstalledFilesChecksum map[string]string `json:"installed-files-checksum"`
	InstalledFilesTemplate []string          `json:"installed-files-template"`
	RenameInstalledFiles   map[string]string `json:"rename-installed-files"`
	Runtime                string            `json:"runtime"`
	UseLinks               bool              `json:"use-links"`
	SystemPackage          string            `json:"system-package"`

	// Atomic holds everything the original format has no key for.
	Atomic Deployment `json:"atomic"`
}

// Deployment is the part of a record that is atomic's own.
type Deployment struct {
	Version    int    `json:"version"`
	Name       string `json:"name"`
	Generation int    `json:"generation"`

	// ManifestDigest is the digest ("sha256:HEX") of the manifest for this
	// architecture, ConfigDigest that of the image config, IndexDigest that of
	// the image index the reference named, if it named one.
	ManifestDigest string `json:"manifestDigest"`
	ConfigDigest   string `json:"configDigest"`
	IndexDigest    string `json:"indexDigest,omitempty"`

	// Insecure says that the administrator named the image with the prefix
	// "http:", so its registry may be asked without TLS.
	Insecure bool `json:"insecure,omitempty"`

	Rootfs    Rootfs    `json:"rootfs"`
	Signature Signature `json:"signature"`

	// UserValues are the values the administrator gave with --set; changed
	// defaults of a newer image reach every value that is not among them.
	UserValues map[string]string `json:"userValues,omitempty"`
	// Options are what the administrator added to what the image says; nil if
	// nothing.
	Options *Options `json:"options,omitempty"`
	// Grants are the host permissions the administrator allowed, sorted.
	Grants []string `json:"grants,omitempty"`

	// ConfigSHA256 is the SHA-256 in hex of the deployment's config.json.
	ConfigSHA256 string `json:"configSHA256"`
	// Units are the files of this deployment outside its directory that
	// systemd reads (unit, drop-in, mount unit, tmpfiles), with SHA-256 in hex.
	Units []File `json:"units"`
	// Directories are the host directories that exist because of this
	// deployment (made for its files, or by its tmpfiles.d file), parents
	// first; uninstall removes those that are empty.
	Directories []string `json:"directories,omitempty"`
	// Made are the files and symlinks that exist because of a tmpfiles.d file
	// of the container; uninstall removes those that are as they were made.
	Made []string `json:"made,omitempty"`

	// IDs are the host's user and group IDs that the container's user namespace
	// has; nil if it has none.
	IDs *IDs `json:"ids,omitempty"`

	Start Start `json:"start"`
}

// IDs is a range of user and group IDs.
type IDs struct {
	First uint32 `json:"first"`
	Count uint32 `json:"count"`
}

// Overlaps reports whether two ranges have an ID in common.
func (i IDs) Overlaps(o IDs) bool {
	return uint64(i.First) < uint64(o.First)+uint64(o.Count) && uint64(o.First) < uint64(i.First)+uint64(i.Count)
}

// Options are additions of the administrator, as they were written.
type Options struct {
	// Env are NAME=VALUE; each name occurs once.
	Env []string `json:"env,omitempty"`
	// Volumes are SOURCE:DESTINATION[:ro|rw]; each destination occurs once.
	Volumes []string `json:"volumes,omitempty"`
	// Publish are [HOSTPORT:]PORT[/PROTOCOL].
	Publish []string `json:"publish,omitempty"`
	// Properties are KEY=VALUE of systemd.
	Properties []string `json:"properties,omitempty"`
	// UserNS is "auto" or "host".
	UserNS string `json:"userNS,omitempty"`
	// Init is "auto", "yes" or "no".
	Init string `json:"init,omitempty"`
	// Isolation is "oci", "native" or "fly"; empty means "oci".
	Isolation string `json:"isolation,omitempty"`
	// SurviveSoftReboot is "yes" or "no".
	SurviveSoftReboot string `json:"surviveSoftReboot,omitempty"`
	// HealthOnFailure is "none" or "restart"; empty means "none".
	HealthOnFailure string `json:"healthOnFailure,omitempty"`
	// Runtime is the absolute path of another OCI runtime, or "atomic" for none.
	Runtime string `json:"runtime,omitempty"`
}

// Rootfs identifies the root file system of a deployment.
type Rootfs struct {
	// Type is "composefs".
	Type string `json:"type"`
	// Image is the fs-verity digest of the EROFS image, 64 hex digits.
	Image string `json:"image"`
	// Verity is the policy at install: "require", "try" or "off".
	Verity string `json:"verity"`
	// Enforced says whether the kernel verified the objects at install.
	Enforced bool `json:"enforced"`
	// Verify is "start" if every start checks all content that the kernel does
	// not, else empty.
	Verify string `json:"verify,omitempty"`
}

// Signature is the verdict of the signature policy at install.
type Signature struct {
	// Verdict is "unsigned", "signedBy" or "sigstore".
	Verdict string `json:"verdict"`
	// Keys are fingerprints or key file names that the policy accepted.
	Keys []string `json:"keys,omitempty"`
	// Exception is true when the administrator overrode the policy for this
	// one command.
	Exception bool `json:"exception,omitempty"`
	// PolicySHA256 is the SHA-256 in hex of the policy that was applied.
	PolicySHA256 string `json:"policySHA256,omitempty"`
}

// File is a file on the host and the SHA-256 of its content in hex.
type File struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Start is what install decided about every start of the deployment.
type Start struct {
	// Unit is the service's unit name, for example "etcd.service".
	Unit string `json:"unit"`
	// MountUnit is the unit that mounts the root file system.
	MountUnit string `json:"mountUnit"`
	// StopSignal is the signal name of KillSignal=, for example "SIGTERM".
	StopSignal string `json:"stopSignal"`
	// Notify says who reports readiness: "relay" (the payload notifies and the
	// launcher passes on READY=1 only), "filter" (afterwards everything harmless
	// passes a filter), "raw" (the payload has systemd's socket) or "launcher"
	// (the launcher reports READY=1 once the payload has been executed).
	Notify string `json:"notify"`
	// NotifyPath is where the payload finds its notification socket; empty
	// if Notify is "launcher".
	NotifyPath string `json:"notifyPath,omitempty"`
	// Register says whether the container is registered with systemd-machined.
	Register bool `json:"register"`
	// Bus says whether the container sees the directory of its login bus at
	// /run/dbus.
	Bus bool `json:"bus,omitempty"`
	// Engine is "plan" if the deployment has a compiled plan, "native" if
	// systemd itself does everything, "runtime" if Runtime makes the container,
	// else "oci".
	Engine string `json:"engine"`
	// Runtime is another program that makes the container; nil if none does.
	Runtime *Runtime `json:"runtime,omitempty"`
	// Init is "yes", or "auto" if install has decided so, if the payload has a
	// process 1 before it; else empty.
	Init string `json:"init,omitempty"`
	// Health is the image's health check, nil if it has none.
	Health *Health `json:"health,omitempty"`
	// PlanSHA256 is the SHA-256 in hex of the deployment's plan.
	PlanSHA256 string `json:"planSHA256,omitempty"`
	// Measure overrides the host's measurement mode: "", "off", "try" or "require".
	Measure string `json:"measure,omitempty"`
}

// The kinds of runtimes: those that can be told to leave the payload in its
// unit's cgroup, and those of which nothing is known.
const (
	Crun         = "crun"
	Runc         = "runc"
	OtherRuntime = "other"
)

// Runtime is an OCI runtime.
type Runtime struct {
	// Path is absolute.
	Path string `json:"path"`
	// Kind is Crun, Runc or OtherRuntime, as it said of itself at installation.
	Kind string `json:"kind"`
}

// Health is how to find out whether the payload does its work.
type Health struct {
	// Test is a command in the container; its exit code 0 means yes.
	Test []string `json:"test"`
	// Interval is the time between two checks, Timeout how long one may take,
	// and StartPeriod how long the payload may need until it does its work, all
	// in milliseconds. Retries is how many checks in a row must fail.
	Interval    int64 `json:"interval"`
	Timeout     int64 `json:"timeout"`
	StartPeriod int64 `json:"startPeriod,omitempty"`
	Retries     int   `json:"retries"`
}

// Patience is how long after its start a payload may fail its checks.
func (h *Health) Patience() time.Duration {
	return time.Duration(h.StartPeriod+int64(h.Retries)*h.Interval) * time.Millisecond
}
