// SPDX-License-Identifier: Apache-2.0

// Package plan is the compiled form of a config.json: what a start has to do,
// in the order in which it does it, with every name already turned into the
// number that the kernel wants.
//
// Compile turns a configuration into a plan at install, if every part of it is
// on the list of what plans can express; everything else is started by the
// complete engine, libcontainer. config.json remains the truth: a plan names
// the digest of the one it was compiled from, and is not used for another.
//
// The package is pure, and small enough for the program that executes plans.
// docs/formats/plan.md describes the file.
package plan

import "slices"

// Version is the version of the format. A program executes plans of its own
// version only.
const Version = 2

// Plan is one compiled configuration.
type Plan struct {
	// Config and Rootfs are the SHA-256 of config.json and the fs-verity digest
	// of the root file system's image, both in hex, that the plan is for.
	Config, Rootfs string

	Namespaces uint64 // CLONE_NEW* flags of those that are made
	Joined     []Join // those that are there already
	// UIDs and GIDs are the IDs of a user namespace, if there is one.
	UIDs, GIDs []IDMap
	Hostname   string
	Domainname string
	// Loopback says that the container has a network of its own, whose lo is
	// to be brought up.
	Loopback bool

	// Propagation is the MS_* propagation of the whole tree before anything is
	// mounted.
	Propagation  uint64
	ReadonlyRoot bool
	Mounts       []Mount
	// SetupDev says that device nodes and links are made in /dev.
	SetupDev bool
	Devices  []Device
	Sysctls  []Sysctl
	Readonly []string // paths to be made read-only
	Masked   []string // paths to be hidden

	OOMScoreAdj *int64
	Rlimits     []Rlimit

	UID, GID uint64
	Groups   []uint64
	Umask    uint64
	Caps     *Caps // nil leaves them as they are
	// NoNewPrivileges is the flag of that name.
	NoNewPrivileges bool

	Cwd       string
	Args, Env []string

	// SeccompFlags are seccomp(2)'s, Seccomp is the filter as the kernel takes
	// it: an array of struct sock_filter. Empty means none.
	SeccompFlags uint64
	Seccomp      []byte
}

// Join is a namespace that the container shares: its CLONE_NEW* flag, and a file
// that stands for it.
type Join struct {
	Kind uint64
	Path string
}

// Joins reports whether the container shares a namespace of a kind.
func (p *Plan) Joins(kind uint64) bool {
	return slices.ContainsFunc(p.Joined, func(j Join) bool { return j.Kind == kind })
}

// IDMap maps Count IDs, those from Inside on to those from Outside on.
type IDMap struct{ Inside, Outside, Count uint64 }

// UserNS reports whether the container has a user namespace of its own.
func (p *Plan) UserNS() bool { return p.Namespaces&newUser != 0 }

// Mount is one mount.
type Mount struct {
	// Type is the file system, or "bind".
	Type   string
	Source string
	Target string
	// Flags are MS_* flags, of mount(2). Of a bind mount only MS_REC counts.
	Flags uint64
	Data  string
	// Set and Clear are MOUNT_ATTR_* of a bind mount, RecSet and RecClear those
	// for everything below it as well. The cgroups become one if they cannot be
	// mounted.
	Set, Clear       uint64
	RecSet, RecClear uint64
	// Off are MS_* flags that a bind mount must not have. Others of the host stay
	// if a user namespace cannot take them away, whatever Clear says.
	Off uint64
	// IDMap says whose the files of a bind mount are.
	IDMap uint64
	// Propagation are MS_* flags, applied one after the other.
	Propagation []uint64
}

// The values of Mount.IDMap.
const (
	IDMapNone      = iota // whose they are on the host
	IDMapTop              // the same IDs inside as on the host
	IDMapRecursive        // likewise in mounts below it
)

// Bind reports whether a mount shows something of the host.
func (m *Mount) Bind() bool { return m.Type == "bind" }

// Device is a node in /dev. Mode holds its type as well.
type Device struct {
	Path         string
	Mode         uint64
	Major, Minor uint64
	UID, GID     uint64
}

// Sysctl is a kernel parameter; Path is below /proc/sys.
type Sysctl struct{ Path, Value string }

// Rlimit is a resource limit; Kind is RLIMIT_*.
type Rlimit struct{ Kind, Soft, Hard uint64 }

// Caps are sets of capabilities, a bit for each.
type Caps struct{ Bounding, Effective, Permitted, Inheritable, Ambient uint64 }
