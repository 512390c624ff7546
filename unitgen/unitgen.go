// SPDX-License-Identifier: Apache-2.0

// Package unitgen turns an image's templates, the administrator's values and
// grants, and a few facts about the host into the files of one deployment:
// config.json, the service unit with its drop-in, the mount unit of the root
// file system, the tmpfiles.d file and the host files.
//
// It is pure: it does no I/O and reads neither clock, environment nor host.
// Same Input, same Output, byte for byte. It never touches the host; whoever
// calls it decides what to do with the result.
//
// It follows the /exports contract of Project Atomic's system containers (see
// docs/compat.md) and reports every problem of an input at once, as *Problems.
package unitgen

import (
	"io/fs"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// Input is everything a deployment is rendered from.
type Input struct {
	// Name is the container's name; Generation and DestDir (absolute) name
	// its new deployment.
	Name       string
	Generation int
	DestDir    string

	// ImageName is the image as stored in the record, ImageID the hex part of
	// its manifest digest, ImageConfig its OCI image configuration.
	ImageName   string
	ImageID     string
	ImageConfig ispec.Image
	// Healthcheck is the part of the image configuration that only Docker's
	// format has; nil if there is none.
	Healthcheck *Healthcheck

	Exports Exports

	// Set are the administrator's values: those of this command and, when
	// updating, those of earlier commands that it does not change. Previous
	// are all values of the deployment that is updated (nil at install); only
	// what is drawn once for a container, its UUID, is taken from them, so
	// that changed defaults of the image reach everything else.
	Set      map[string]string
	Previous map[string]string
	Options  Options
	// Grants are the host permissions the administrator allowed.
	Grants []string

	// Runtime is the absolute path of another OCI runtime, which the launcher
	// has make the container; "" if it does so itself.
	Runtime string

	// IDs are for the container's user namespace, if it gets one; nil where
	// Host.NoUserNS says why there is none.
	IDs *IDRange

	Host HostFacts
}

// Exports are the files below /exports in an image; a nil slice is an absent
// file, an empty one an empty file.
type Exports struct {
	ConfigJSON      []byte // /exports/config.json
	ConfigTemplate  []byte // /exports/config.json.template
	ServiceTemplate []byte // /exports/service.template
	Tmpfiles        []byte // /exports/tmpfiles.template
	Manifest        []byte // /exports/manifest.json
	// HostFS is the tree below /exports/hostfs, parents before children;
	// paths are absolute host paths.
	HostFS []HostFile
	// Lookup reports what the image holds at an absolute path, following no
	// symlink in the last component; used for mount points and for user names.
	Lookup func(path string) (info Entry, ok bool)
	// ReadFile returns the content of a regular file of the image, for
	// /etc/passwd and /etc/group.
	ReadFile func(path string) ([]byte, error)
}

// Empty reports whether the image has no templates at all.
func (e *Exports) Empty() bool {
	return e.ConfigJSON == nil && e.ConfigTemplate == nil && e.ServiceTemplate == nil && e.Tmpfiles == nil && e.Manifest == nil && len(e.HostFS) == 0
}

// Entry is the type of a file in the image and its target if it is a symlink.
type Entry struct {
	Mode   fs.FileMode
	Target string
}

// HostFile is a file for the host.
type HostFile struct {
	Path     string // absolute
	Mode     fs.FileMode
	UID, GID int
	Content  []byte
	Target   string // of a symlink
	ModTime  time.Time
}

// HostFacts are the facts about the host that rendering depends on.
type HostFacts struct {
	// Capabilities is the host's capability bounding set ("CAP_CHOWN", …).
	Capabilities []string
	UID, GID     int
	// UUID is a fresh random UUID for templates that ask for one.
	UUID string
	// Launcher is the absolute path of atomic-launch, Agent that of atomic.
	Launcher string
	Agent    string
	// Starter is the absolute path of atomic-start, which starts containers by
	// their plans; "" if none are to be made.
	Starter string
	// Exists reports whether an absolute path exists on the host: the contract
	// generates a tmpfiles line for every bind source that does not.
	Exists func(path string) bool
	// IsDir reports whether a path of the host, symlinks followed, exists and
	// is a directory: a bind mount of a file needs a file to be mounted on.
	// nil means that nothing is known to exist.
	IsDir func(path string) (dir, exists bool)
	// Readlink returns the target of a path of the host that is a symlink.
	// nil means that none is.
	Readlink func(path string) (target string, ok bool)
	// HasUser and HasGroup report whether the host knows an ID: systemd gives a
	// service no other. nil means that it knows all.
	HasUser  func(uid uint32) bool
	HasGroup func(gid uint32) bool
	// SELinux and AppArmor say whether the host enforces labels and profiles.
	SELinux  bool
	AppArmor bool
	// Systemd is the major version of the host's service manager, 0 if unknown.
	Systemd int
	// Machined says that containers are registered with systemd-machined.
	Machined bool
	// Verity is the mount policy: "require", "try" or "off".
	Verity string
	// NoUserNS says why this host cannot have user namespaces with id-mapped
	// mounts; empty if it can.
	NoUserNS string
	// CanIDMap says why the owners of files at a path of the host cannot be
	// mapped; nil if they can. If the function is nil, all can.
	CanIDMap func(path string) error
	// UnprivilegedPort is the first port that needs no privilege; 0 is 1024.
	UnprivilegedPort int
	// TPMDevice is the device node that the launcher measures starts into, ""
	// if there is none.
	TPMDevice string
}

// Output is a rendered deployment.
type Output struct {
	Config   []byte // config.json
	Unit     []byte // NAME.service; nil for images without a service, or to be run once
	DropIn   []byte // DropInName
	Tmpfiles []byte // NAME.conf; nil if nothing is to be written

	// Plan is the compiled configuration, nil if it cannot have one. Its digests
	// and its seccomp filter are the caller's to add.
	Plan *plan.Plan

	// Bus says that the directory of the login bus covers the container's
	// /run/dbus, Login that machinectl login and shell are served there by
	// the units BusSocketName and BusServiceName.
	Bus, Login bool
	BusSocket  []byte
	BusService []byte

	// HostFiles are files, symlinks, and directories that are empty in the
	// image. The directories on the way to them are not listed: whoever
	// installs them makes what is missing, mode 0755.
	HostFiles []HostFile
	// HostFileTemplates are the paths among HostFiles that were substituted,
	// Renames the manifest's renameFiles after substitution.
	HostFileTemplates []string
	Renames           map[string]string

	// Values are all values, in the end, for the record.
	Values map[string]string

	// MountPoints must be added to the root file system before it is sealed,
	// parents before children. Directories are root's, mode 0755; files are
	// empty.
	MountPoints []MountPoint

	// RunOnce says that the image is to be run once and not installed (label
	// atomic.run=once); UseLinks is the manifest's.
	RunOnce  bool
	UseLinks bool

	// IDs are those of the container's user namespace, Input.IDs or nil.
	IDs *IDRange

	StopSignal string // "SIGTERM"
	Notify     string // see record.Start
	NotifyPath string
	// Init is InitYes or InitAuto if the payload gets a process 1, else empty.
	Init string
	// Native says that systemd starts the container without the launcher;
	// Command is the program that it executes then, a path in the image.
	Native  bool
	Command string
	// Health is the health check, nil if there is none, and HealthTimer the unit
	// HealthTimerName that runs it.
	Health      *Health
	HealthTimer []byte

	// Permissions is what the deployment asks of the host; Missing are the
	// grants it needs beyond the default profile and Input.Grants.
	Permissions []Permission
	Missing     []string

	// Warnings are for the person at the keyboard.
	Warnings []string
}

// MountPoint is a directory or an empty file that the image lacks.
type MountPoint struct {
	Path string
	Dir  bool
}

// Permission is one thing a deployment asks of the host.
type Permission struct {
	// Grant is the word that allows it, for example "cap:NET_ADMIN" or
	// "path:/etc/systemd/system:rw".
	Grant string `json:"grant"`
	// Default says that the default profile includes it.
	Default bool `json:"default"`
	// Why names the file and line it comes from.
	Why string `json:"why"`
}
