// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The kernel's numbers, the same on every architecture. The package makes no
// system calls and imports nothing that does.
const (
	newMount  = 0x00020000
	newCgroup = 0x02000000
	newUser   = 0x10000000
	newUTS    = 0x04000000
	newIPC    = 0x08000000
	newPID    = 0x20000000
	newNet    = 0x40000000

	allNamespaces = newMount | newCgroup | newUser | newUTS | newIPC | newPID | newNet

	msReadonly    = 1 << 0
	msNosuid      = 1 << 1
	msNodev       = 1 << 2
	msNoexec      = 1 << 3
	msSync        = 1 << 4
	msMandlock    = 1 << 6
	msDirsync     = 1 << 7
	msNosymfollow = 1 << 8
	msNoatime     = 1 << 10
	msNodiratime  = 1 << 11
	msBind        = 1 << 12
	msRec         = 1 << 14
	msSilent      = 1 << 15
	msUnbindable  = 1 << 17
	msPrivate     = 1 << 18
	msSlave       = 1 << 19
	msShared      = 1 << 20
	msRelatime    = 1 << 21
	msIversion    = 1 << 23
	msStrictatime = 1 << 24
	msLazytime    = 1 << 25

	attrReadonly    = 0x1
	attrNosuid      = 0x2
	attrNodev       = 0x4
	attrNoexec      = 0x8
	attrNoatime     = 0x10
	attrStrictatime = 0x20
	attrAtime       = 0x70 // the mask
	attrNodiratime  = 0x80
	attrNosymfollow = 0x200000

	typeFifo  = 0o010000
	typeChar  = 0o020000
	typeBlock = 0o060000
)

// joinable are the namespaces that a thread can enter by itself.
var joinable = []uint64{newCgroup, newUTS, newIPC, newPID, newNet}

var namespaceFlags = map[specs.LinuxNamespaceType]uint64{
	specs.MountNamespace: newMount, specs.CgroupNamespace: newCgroup, specs.UTSNamespace: newUTS,
	specs.IPCNamespace: newIPC, specs.PIDNamespace: newPID, specs.NetworkNamespace: newNet,
	specs.UserNamespace: newUser,
}

// bitOption sets bits, or clears them.
type bitOption struct {
	clear bool
	bits  uint64
}

var mountFlags = map[string]bitOption{
	"async": {true, msSync}, "atime": {true, msNoatime}, "bind": {false, msBind}, "dev": {true, msNodev},
	"diratime": {true, msNodiratime}, "dirsync": {false, msDirsync}, "exec": {true, msNoexec},
	"iversion": {false, msIversion}, "lazytime": {false, msLazytime}, "loud": {true, msSilent},
	"mand": {false, msMandlock}, "noatime": {false, msNoatime}, "nodev": {false, msNodev},
	"nodiratime": {false, msNodiratime}, "noexec": {false, msNoexec}, "noiversion": {true, msIversion},
	"nolazytime": {true, msLazytime}, "nomand": {true, msMandlock}, "norelatime": {true, msRelatime},
	"nostrictatime": {true, msStrictatime}, "nosuid": {false, msNosuid}, "nosymfollow": {false, msNosymfollow},
	"rbind": {false, msBind | msRec}, "relatime": {false, msRelatime}, "ro": {false, msReadonly},
	"rw": {true, msReadonly}, "silent": {false, msSilent}, "strictatime": {false, msStrictatime},
	"suid": {true, msNosuid}, "symfollow": {true, msNosymfollow}, "sync": {false, msSync},
}

// lockedFlags are what a user namespace may not take away from a mount of the
// host, by the options that would.
const lockedFlags = msReadonly | msNosuid | msNodev | msNoexec | msNoatime | msNodiratime | msRelatime | msStrictatime

var propagations = map[string]uint64{
	"private": msPrivate, "rprivate": msPrivate | msRec, "slave": msSlave, "rslave": msSlave | msRec,
	"shared": msShared, "rshared": msShared | msRec, "unbindable": msUnbindable, "runbindable": msUnbindable | msRec,
}

var recursiveAttributes = map[string]bitOption{
	"rro": {false, attrReadonly}, "rrw": {true, attrReadonly}, "rnosuid": {false, attrNosuid}, "rsuid": {true, attrNosuid},
	"rnodev": {false, attrNodev}, "rdev": {true, attrNodev}, "rnoexec": {false, attrNoexec}, "rexec": {true, attrNoexec},
	"rnodiratime": {false, attrNodiratime}, "rdiratime": {true, attrNodiratime},
	"rrelatime": {false, 0}, "rnorelatime": {true, 0}, "rnoatime": {false, attrNoatime}, "ratime": {true, attrNoatime},
	"rstrictatime": {false, attrStrictatime}, "rnostrictatime": {true, attrStrictatime},
	"rnosymfollow": {false, attrNosymfollow}, "rsymfollow": {true, attrNosymfollow},
}

var deviceTypes = map[string]uint64{"b": typeBlock, "c": typeChar, "u": typeChar, "p": typeFifo}

// defaultDevices are what every container has in /dev.
var defaultDevices = []Device{
	{Path: "/dev/null", Mode: typeChar | 0o666, Major: 1, Minor: 3},
	{Path: "/dev/random", Mode: typeChar | 0o666, Major: 1, Minor: 8},
	{Path: "/dev/full", Mode: typeChar | 0o666, Major: 1, Minor: 7},
	{Path: "/dev/tty", Mode: typeChar | 0o666, Major: 5, Minor: 0},
	{Path: "/dev/zero", Mode: typeChar | 0o666, Major: 1, Minor: 5},
	{Path: "/dev/urandom", Mode: typeChar | 0o666, Major: 1, Minor: 9},
}

// IPCSysctl reports whether a parameter of the kernel belongs to the IPC
// namespace.
func IPCSysctl(name string) bool {
	return strings.HasPrefix(name, "fs.mqueue.") || slices.Contains(ipcSysctls, name)
}

var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
	"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

// IsRlimit reports whether a limit has this name.
func IsRlimit(name string) bool { return slices.Contains(rlimits, name) }

// rlimits in the order of their numbers, which all of Go's Linux ports but the
// MIPS ones share.
var rlimits = []string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS",
	"RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING",
	"RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// Capabilities are those of the current kernel, in the order of their numbers.
func Capabilities() []string { return slices.Clone(capabilities) }

var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
	"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}
