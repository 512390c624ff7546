// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"io/fs"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// testCase is one configuration: base with a change.
type testCase struct {
	name   string
	change func(*specs.Spec)
	// setup and teardown are shell commands around each run, in the bundle's
	// directory. What setup prints are namespaces the container may be in:
	// "net:[4026…] NAME".
	setup, teardown string
	// after prints further observations, "KEY TAB VALUE".
	after string
	// refused: the configuration must not start.
	refused bool
	// twin: the case is compared between the engines of atomic alone, which may
	// refuse it.
	twin bool
}

type spec = specs.Spec

func ask(s *spec, what ...string) { s.Process.Args = append(s.Process.Args, what...) }

// without takes namespaces out, which leaves the payload in the host's.
func without(types ...specs.LinuxNamespaceType) func(*spec) {
	return func(s *spec) {
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return slices.Contains(types, n.Type) })
	}
}

// join gives a namespace a path.
func join(t specs.LinuxNamespaceType, path string) func(*spec) {
	return func(s *spec) {
		without(t)(s)
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
}

// pin makes a namespace and pins it to a file.
func pin(option, name string) string {
	return `touch /run/oci-ns
unshare --` + option + `=/run/oci-ns true
echo "` + name + `:[$(stat -L -c %i /run/oci-ns)] joined"`
}

const unpin = `umount /run/oci-ns`

func add(ms ...specs.Mount) func(*spec) {
	return func(s *spec) { s.Mounts = append(s.Mounts, ms...) }
}

// bind mounts a directory of the bundle, which setup makes.
func bind(source, target string, options ...string) specs.Mount {
	return specs.Mount{Destination: target, Type: "bind", Source: top + "/shared/" + source, Options: options}
}

func tmpfs(target string, options ...string) specs.Mount {
	return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: options}
}

// shared makes a directory outside with a file, a mount below it, and files
// of two owners.
const shared = `mkdir -p ` + top + `/shared/dir/sub ` + top + `/shared/dir/in ` + top + `/shared/plain
echo outside >` + top + `/shared/dir/file
echo alone >` + top + `/shared/file
touch ` + top + `/shared/dir/of1000 ` + top + `/shared/plain/of1000 ` + top + `/shared/plain/file
chown 1000:1000 ` + top + `/shared/dir/of1000 ` + top + `/shared/plain/of1000
mount -t tmpfs -o mode=700 sub ` + top + `/shared/dir/sub`

const unshared = `umount -R ` + top + `/shared/dir/sub
umount -R -l ` + top + `/shared/dir 2>/dev/null
rm -rf ` + top + `/shared`

func all(changes ...func(*spec)) func(*spec) {
	return func(s *spec) {
		for _, c := range changes {
			c(s)
		}
	}
}

func asks(what ...string) func(*spec) { return func(s *spec) { ask(s, what...) } }

func user(uid, gid uint32, more ...uint32) func(*spec) {
	return func(s *spec) { s.Process.User = specs.User{UID: uid, GID: gid, AdditionalGids: more} }
}

func caps(c *specs.LinuxCapabilities) func(*spec) {
	return func(s *spec) { s.Process.Capabilities = c }
}

func sets(list ...string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
}

func userns(maps ...specs.LinuxIDMapping) func(*spec) {
	return func(s *spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		if len(maps) == 0 {
			maps = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
		}
		s.Linux.UIDMappings, s.Linux.GIDMappings = maps, maps
	}
}

func seccomp(f *specs.LinuxSeccomp) func(*spec) {
	return func(s *spec) { s.Linux.Seccomp = f }
}

// deny is a filter that allows all but some system calls.
func deny(action specs.LinuxSeccompAction, errno *uint, names ...string) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: names, Action: action, ErrnoRet: errno}},
	}
}

func ptr[T any](v T) *T { return &v }

func process(change func(*specs.Process)) func(*spec) { return func(s *spec) { change(s.Process) } }

func linux(change func(*specs.Linux)) func(*spec) { return func(s *spec) { change(s.Linux) } }

func hook(name string) specs.Hook {
	return specs.Hook{
		Path: "/bin/sh", Env: []string{"NAME=" + name, "PATH=/usr/bin:/bin"},
		Args: []string{"sh", "-c", `{ printf 'hook.%s\t' "$NAME"; tr -d '\n ' | sed 's/"pid":[0-9]*/"pid":N/; s/case-[a-z-]*/ID/; s/"ociVersion":"[^"]*"/"ociVersion":V/'; echo; } >>` + top + `/hooks.log`},
	}
}

// inside is a hook that runs in the container, which has no shell.
func inside(name string, args ...string) specs.Hook {
	return specs.Hook{Path: "/bin/probe", Args: append([]string{name}, args...)}
}

// propagation runs a bind mount with a propagation mode.
func propagation(mode string) testCase {
	return testCase{
		name: "mount-bind-" + mode, setup: shared + "\nmount --make-shared " + top + "/shared/dir/sub", teardown: unshared,
		change: add(bind("dir", "/mnt/a", "rbind", mode)),
	}
}

func rootPropagation(mode string) testCase {
	return testCase{
		name: "rootfs-" + mode, setup: shared, teardown: unshared,
		change: all(linux(func(l *specs.Linux) { l.RootfsPropagation = mode }), add(bind("dir", "/mnt/a", "rbind"))),
	}
}

func mountOption(option string) testCase {
	return testCase{
		name: "mount-option-" + option, setup: shared, teardown: unshared,
		change: all(add(bind("dir", "/mnt/a", "rbind", option), tmpfs("/mnt/b", option)),
			asks("write:/mnt/a/file", "make:/mnt/b/new", "write:/mnt/a/sub")),
	}
}

var cases = withUserNS(slices.Concat([]testCase{
	{name: "base", change: asks("stdin", "mounts", "write:/proc/sys/kernel/hostname", "write:/proc/sysrq-trigger", "read:/proc/keys", "read:/proc/kcore", "list:/sys/firmware", "list:/", "list:/run", "make:/new", "make:/tmp/new")},

	// Namespaces.
	{name: "ns-host-pid", change: without(specs.PIDNamespace)},
	{name: "ns-host-net", change: all(without(specs.NetworkNamespace), func(s *spec) {
		// A sysfs of its own would need the network namespace.
		s.Mounts = append(slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/sys" }),
			specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}})
	})},
	{name: "ns-host-ipc", change: without(specs.IPCNamespace)},
	{name: "ns-host-uts", change: all(without(specs.UTSNamespace), func(s *spec) { s.Hostname = "" })},
	{name: "ns-host-cgroup", change: without(specs.CgroupNamespace)},
	{name: "ns-host-all", change: all(without(specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace), func(s *spec) { s.Hostname = "" })},
	{name: "ns-join-net", change: join(specs.NetworkNamespace, "/run/oci-ns"), setup: pin("net", "net"), teardown: unpin},
	{name: "ns-join-ipc", change: join(specs.IPCNamespace, "/run/oci-ns"), setup: pin("ipc", "ipc"), teardown: unpin},
	{name: "ns-join-uts", change: all(join(specs.UTSNamespace, "/run/oci-ns"), func(s *spec) { s.Hostname = "" }), setup: pin("uts", "uts"), teardown: unpin},
	{name: "ns-join-cgroup", change: join(specs.CgroupNamespace, "/run/oci-ns"), setup: pin("cgroup", "cgroup"), teardown: unpin},
	{name: "ns-join-pid", change: join(specs.PIDNamespace, "/run/oci-pid"), setup: `unshare --pid --fork --kill-child sleep 60 </dev/null >/dev/null 2>&1 &
holder=$!
while ! pgrep -P $holder sleep >/dev/null; do :; done
touch /run/oci-pid
mount --bind /proc/$(pgrep -P $holder sleep)/ns/pid /run/oci-pid
echo "pid:[$(stat -L -c %i /run/oci-pid)] joined"`, teardown: "umount /run/oci-pid; rm /run/oci-pid; kill $holder"},
	{name: "ns-join-missing", change: join(specs.NetworkNamespace, "/run/none"), refused: true},
	{name: "ns-join-wrong-kind", change: join(specs.NetworkNamespace, "/proc/self/ns/uts"), refused: true},
	{name: "ns-twice", change: linux(func(l *specs.Linux) {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}), refused: true},
	{name: "time", change: linux(func(l *specs.Linux) {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		l.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000, Nanosecs: 7}, "monotonic": {Secs: 500}}
	})},
	{name: "time-no-offsets", change: linux(func(l *specs.Linux) {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	})},
	{name: "time-join", change: join(specs.TimeNamespace, "/run/oci-time"), setup: `unshare --time --boottime 99 --fork --kill-child sleep 60 </dev/null >/dev/null 2>&1 &
holder=$!
while ! pgrep -P $holder sleep >/dev/null; do :; done
touch /run/oci-time
mount --bind /proc/$(pgrep -P $holder sleep)/ns/time /run/oci-time
echo "time:[$(stat -L -c %i /run/oci-time)] joined"`, teardown: "umount /run/oci-time; rm /run/oci-time; kill $holder"},

	// User namespaces.
	{name: "userns", change: all(userns(), asks("stat:/etc/passwd", "stat:/tmp", "make:/tmp/new", "mounts"))},
	{name: "userns-identity", change: userns(specs.LinuxIDMapping{ContainerID: 0, HostID: 0, Size: 1000})},
	{name: "userns-two-ranges", change: all(userns(specs.LinuxIDMapping{ContainerID: 0, HostID: 100000, Size: 1000}, specs.LinuxIDMapping{ContainerID: 1000, HostID: 200000, Size: 10}), user(1003, 1003, 1004))},
	{name: "userns-user", change: all(userns(), user(1000, 1000, 5, 6))},
	{name: "userns-unmapped-user", change: all(userns(specs.LinuxIDMapping{ContainerID: 0, HostID: 100000, Size: 10}), user(1000, 1000)), refused: true},
	{name: "userns-devices", change: all(userns(), linux(func(l *specs.Linux) {
		l.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: ptr(fs.FileMode(0o666))}}
	}))},
	{name: "userns-join", change: all(join(specs.UserNamespace, "/run/oci-user")), setup: `unshare --user --kill-child --fork sleep 60 </dev/null >/dev/null 2>&1 &
holder=$!
while ! pgrep -P $holder sleep >/dev/null; do :; done
p=$(pgrep -P $holder sleep)
echo 0 100000 65536 >/proc/$p/uid_map
echo 0 100000 65536 >/proc/$p/gid_map
touch /run/oci-user
mount --bind /proc/$p/ns/user /run/oci-user
echo "user:[$(stat -L -c %i /run/oci-user)] joined"`, teardown: "umount /run/oci-user; rm /run/oci-user; kill $holder"},
	{name: "idmap-mount", setup: shared, teardown: unshared, change: all(userns(), func(s *spec) {
		m := bind("plain", "/mnt/a", "bind")
		m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
		m.GIDMappings = m.UIDMappings
		s.Mounts = append(s.Mounts, m)
		ask(s, "stat:/mnt/a/file", "stat:/mnt/a/of1000", "make:/mnt/a/new")
	}), after: `printf 'host.owner\t%s\n' "$(stat -c %u ` + top + `/shared/plain/new)"`},
	{name: "idmap-mount-submount", setup: shared, teardown: unshared, change: all(userns(), add(bind("dir", "/mnt/a", "bind", "idmap"))), refused: true},
	{name: "idmap-mount-option", setup: shared, teardown: unshared, change: all(userns(), add(bind("plain", "/mnt/a", "bind", "idmap")), asks("stat:/mnt/a/file", "stat:/mnt/a/of1000"))},
	{name: "idmap-mount-recursive", setup: shared, teardown: unshared, change: all(userns(), add(bind("dir", "/mnt/a", "rbind", "ridmap")), asks("stat:/mnt/a/file", "stat:/mnt/a/sub"))},
	{name: "idmap-mount-no-userns", setup: shared, teardown: unshared, change: func(s *spec) {
		m := bind("dir", "/mnt/a", "bind")
		m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 7000, Size: 10}}
		m.GIDMappings = m.UIDMappings
		s.Mounts = append(s.Mounts, m)
		ask(s, "stat:/mnt/a/file")
	}},

	// Users and groups.
	{name: "user", change: all(user(1000, 1000), asks("make:/tmp/new", "write:/dev/null", "exec:/bin/probe"))},
	{name: "user-groups", change: user(1000, 1001, 10, 20, 1001, 30)},
	{name: "user-root-groups", change: user(0, 0, 0, 1, 2)},
	{name: "user-gid-only", change: user(0, 1000)},
	{name: "umask", change: all(process(func(p *specs.Process) { p.User.Umask = ptr(uint32(0o077)) }), asks("make:/tmp/new"))},
	{name: "umask-zero", change: all(process(func(p *specs.Process) { p.User.Umask = ptr(uint32(0)) }), asks("make:/tmp/new"))},
	{name: "user-nnp-off", change: all(user(1000, 1000), process(func(p *specs.Process) { p.NoNewPrivileges = false }))},

	// Capabilities.
	{name: "caps-none", change: caps(&specs.LinuxCapabilities{})},
	{name: "caps-absent", change: caps(nil)},
	{name: "caps-many", change: all(caps(sets("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE")), asks("mounts"))},
	{name: "caps-admin", change: all(caps(sets("CAP_SYS_ADMIN", "CAP_NET_ADMIN")), asks("mounts", "write:/proc/sys/kernel/hostname"))},
	{name: "caps-inheritable", change: caps(&specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Effective: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL", "CAP_CHOWN"}, Inheritable: []string{"CAP_KILL"}})},
	{name: "caps-ambient-user", change: all(user(1000, 1000), caps(&specs.LinuxCapabilities{Bounding: []string{"CAP_NET_BIND_SERVICE"}, Effective: []string{"CAP_NET_BIND_SERVICE"}, Permitted: []string{"CAP_NET_BIND_SERVICE"}, Inheritable: []string{"CAP_NET_BIND_SERVICE"}, Ambient: []string{"CAP_NET_BIND_SERVICE"}}))},
	{name: "caps-user-no-ambient", change: all(user(1000, 1000), caps(sets("CAP_NET_BIND_SERVICE", "CAP_KILL")))},
	{name: "caps-unknown", change: caps(sets("CAP_KILL", "CAP_FLY"))},
	{name: "caps-lower-case", change: caps(sets("cap_kill"))},
	{name: "nnp-off", change: process(func(p *specs.Process) { p.NoNewPrivileges = false })},

	// Seccomp.
	{name: "seccomp-errno", change: all(seccomp(deny(specs.ActErrno, nil, "mkdir", "mkdirat", "chmod", "keyctl", "unshare", "setns")), asks("syscalls"))},
	{name: "seccomp-errno-value", change: all(seccomp(deny(specs.ActErrno, ptr(uint(38)), "mkdir", "chmod")), asks("syscalls"))},
	{name: "seccomp-kill", change: all(seccomp(deny(specs.ActKillProcess, nil, "mkdir", "chmod")), asks("syscalls"))},
	{name: "seccomp-kill-thread", change: all(seccomp(deny(specs.ActKillThread, nil, "mkdir")), asks("syscalls"))},
	{name: "seccomp-trap", change: all(seccomp(deny(specs.ActTrap, nil, "mkdir", "chmod")), asks("syscalls"))},
	{name: "seccomp-log", change: all(seccomp(deny(specs.ActLog, nil, "mkdir")), asks("syscalls"))},
	{name: "seccomp-trace", change: all(seccomp(deny(specs.ActTrace, nil, "mkdir")), asks("syscalls"))},
	{name: "seccomp-args", change: all(seccomp(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"personality"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 0xffffffffffffffff, Op: specs.OpEqualTo}}},
		{Names: []string{"dup"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 0x8000, ValueTwo: 0x8000, Op: specs.OpMaskedEqual}}},
		{Names: []string{"alarm"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 100, Op: specs.OpGreaterThan}}},
	}}), asks("syscalls"))},
	{name: "seccomp-unknown-names", change: all(seccomp(deny(specs.ActErrno, nil, "mkdir", "no_such_call", "socketcall")), asks("syscalls"))},
	{name: "seccomp-allow-list", change: all(seccomp(&specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: ptr(uint(1)), Architectures: []specs.Arch{specs.ArchX86_64},
		Syscalls: []specs.LinuxSyscall{{Action: specs.ActAllow, Names: []string{
			"read", "write", "open", "openat", "close", "fstat", "newfstatat", "stat", "lstat", "mmap", "munmap", "mprotect", "brk", "execve", "exit", "exit_group",
			"fork", "clone", "wait4", "alarm", "getpid", "getppid", "getsid", "getpgrp", "getpgid", "getgroups", "uname", "getcwd", "personality", "sched_getattr", "ioprio_get",
			"prctl", "arch_prctl", "readlink", "readlinkat", "getdents64", "lseek", "fcntl", "rt_sigaction", "rt_sigprocmask", "set_tid_address", "set_robust_list", "rseq",
			"prlimit64", "getrandom", "futex", "access", "pread64", "ioctl", "capget", "capset", "setuid", "setgid", "setgroups", "chdir", "fchdir", "sigaltstack", "gettid", "tgkill", "epoll_ctl",
			"nanosleep", "madvise", "sched_getaffinity", "sched_yield", "faccessat2", "statfs", "fstatfs", "getuid", "getgid", "geteuid", "getegid", "dup3", "pipe2", "openat2", "close_range", "restart_syscall",
			"rt_sigreturn", "epoll_create1", "epoll_pwait", "eventfd2", "clone3", "umask", "fchown", "keyctl", "statx", "clock_nanosleep", "pidfd_open", "pidfd_send_signal", "waitid", "unlinkat", "sethostname", "socket", "connect", "sendmsg", "getsockname", "execveat",
		}}},
	}), asks("syscalls"))},
	{name: "seccomp-architectures", change: all(seccomp(func() *specs.LinuxSeccomp {
		f := deny(specs.ActErrno, nil, "mkdir")
		f.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
		return f
	}()), asks("int80:20", "int80:39"))},
	{name: "seccomp-native-only", change: all(seccomp(deny(specs.ActErrno, nil, "mkdir")), asks("int80:20", "int80:39"))},
	{name: "seccomp-flags", change: all(seccomp(func() *specs.LinuxSeccomp {
		f := deny(specs.ActErrno, nil, "mkdir")
		f.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}
		return f
	}()), asks("syscalls"))},
	{name: "seccomp-nnp-off-user", change: all(user(1000, 1000), process(func(p *specs.Process) { p.NoNewPrivileges = false }), seccomp(deny(specs.ActErrno, nil, "mkdir")), asks("syscalls"))},
	{name: "seccomp-none", change: asks("syscalls")},
	{name: "seccomp-userns", change: all(userns(), seccomp(deny(specs.ActErrno, nil, "mkdir")), asks("syscalls"))},

	// Limits, scores, priorities.
	{name: "rlimits", change: process(func(p *specs.Process) {
		p.Rlimits = []specs.POSIXRlimit{
			{Type: "RLIMIT_NOFILE", Hard: 4096, Soft: 512},
			{Type: "RLIMIT_CORE", Hard: 0, Soft: 0},
			{Type: "RLIMIT_NPROC", Hard: 100, Soft: 50},
			{Type: "RLIMIT_STACK", Hard: 16 << 20, Soft: 8 << 20},
			{Type: "RLIMIT_MEMLOCK", Hard: 65536, Soft: 65536},
			{Type: "RLIMIT_FSIZE", Hard: 1 << 30, Soft: 1 << 30},
			{Type: "RLIMIT_AS", Hard: 1 << 40, Soft: 1 << 40},
			{Type: "RLIMIT_CPU", Hard: 1000, Soft: 900},
			{Type: "RLIMIT_MSGQUEUE", Hard: 8192, Soft: 8192},
			{Type: "RLIMIT_SIGPENDING", Hard: 100, Soft: 100},
			{Type: "RLIMIT_NICE", Hard: 0, Soft: 0},
			{Type: "RLIMIT_RTPRIO", Hard: 0, Soft: 0},
			{Type: "RLIMIT_RTTIME", Hard: 1000000, Soft: 1000000},
			{Type: "RLIMIT_LOCKS", Hard: 10, Soft: 10},
			{Type: "RLIMIT_DATA", Hard: 1 << 36, Soft: 1 << 36},
			{Type: "RLIMIT_RSS", Hard: 1 << 36, Soft: 1 << 36},
		}
	})},
	{name: "rlimits-none", change: process(func(p *specs.Process) { p.Rlimits = nil })},
	{name: "rlimits-unknown", change: process(func(p *specs.Process) {
		p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FUN", Hard: 1, Soft: 1}}
	}), refused: true},
	{name: "oom-score-adj", change: process(func(p *specs.Process) { p.OOMScoreAdj = ptr(500) })},
	{name: "oom-score-adj-zero", change: process(func(p *specs.Process) { p.OOMScoreAdj = ptr(0) })},
	{name: "scheduler-batch", change: process(func(p *specs.Process) {
		p.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5}
	})},
	{name: "scheduler-idle", change: process(func(p *specs.Process) {
		p.Scheduler = &specs.Scheduler{Policy: specs.SchedIdle}
	})},
	{name: "scheduler-fifo", change: process(func(p *specs.Process) {
		p.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Priority: 5, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
	})},
	{name: "scheduler-other-nice", change: process(func(p *specs.Process) {
		p.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 7}
	})},
	{name: "ioprio", change: process(func(p *specs.Process) {
		p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	})},
	{name: "ioprio-idle", change: process(func(p *specs.Process) {
		p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}
	})},
	{name: "personality", change: linux(func(l *specs.Linux) {
		l.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	})},
	{name: "personality-linux", change: linux(func(l *specs.Linux) {
		l.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux}
	})},

	// Names and kernel settings.
	{name: "hostname", change: func(s *spec) { s.Hostname, s.Domainname = "a-host.example", "a.domain" }},
	{name: "hostname-none", change: func(s *spec) { s.Hostname = "" }},
	{name: "hostname-no-uts", change: without(specs.UTSNamespace), refused: true},
	{name: "sysctl", change: all(linux(func(l *specs.Linux) {
		l.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.ip_local_port_range": "2000 3000", "kernel.shmmax": "1234567", "fs.mqueue.msg_max": "20", "net.core.somaxconn": "99"}
	}), asks("read:/proc/sys/net/ipv4/ip_forward", "read:/proc/sys/net/ipv4/ip_local_port_range", "read:/proc/sys/kernel/shmmax", "read:/proc/sys/fs/mqueue/msg_max", "read:/proc/sys/net/core/somaxconn"))},
	{name: "sysctl-host", change: linux(func(l *specs.Linux) { l.Sysctl = map[string]string{"kernel.panic": "5"} }), refused: true},
	{name: "sysctl-no-net", change: all(without(specs.NetworkNamespace), linux(func(l *specs.Linux) { l.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} })), refused: true},
	{name: "sysctl-domainname", change: all(linux(func(l *specs.Linux) { l.Sysctl = map[string]string{"kernel.domainname": "by.sysctl"} }))},

	// The process.
	{name: "cwd", change: process(func(p *specs.Process) { p.Cwd = "/work" })},
	{name: "cwd-missing", change: all(process(func(p *specs.Process) { p.Cwd = "/tmp/not/there" }), asks("stat:/tmp/not", "stat:/tmp/not/there"))},
	{name: "cwd-missing-user", change: all(user(1000, 1000), process(func(p *specs.Process) { p.Cwd = "/tmp/not/there" }), asks("stat:/tmp/not", "stat:/tmp/not/there"))},
	{name: "cwd-missing-readonly", change: process(func(p *specs.Process) { p.Cwd = "/not/there" })},
	{name: "cwd-symlink", change: process(func(p *specs.Process) { p.Cwd = "/toetc" })},
	{name: "cwd-up", change: process(func(p *specs.Process) { p.Cwd = "/up" })},
	{name: "cwd-file", change: process(func(p *specs.Process) { p.Cwd = "/etc/passwd" }), refused: true},
	{name: "cwd-of-user", change: all(user(1000, 1000), process(func(p *specs.Process) { p.Cwd = "/home/user" }))},
	{name: "cwd-fd", change: process(func(p *specs.Process) { p.Cwd = "/proc/self/fd/9" }), refused: true},
	{name: "env", change: process(func(p *specs.Process) {
		p.Env = []string{"PATH=/bin", "A=1", "B=", "C=x=y", "A=2", "HOME=/somewhere"}
	})},
	{name: "env-none", change: process(func(p *specs.Process) { p.Env = nil })},
	{name: "env-no-home-user", change: all(user(1000, 1000), process(func(p *specs.Process) { p.Env = []string{"PATH=/bin"} }))},
	{name: "args-path", change: process(func(p *specs.Process) { p.Args = []string{"probe", "", "a b", "ü"} })},
	{name: "args-missing", change: process(func(p *specs.Process) { p.Args = []string{"/bin/none"} }), refused: true},
	{name: "args-not-executable", change: process(func(p *specs.Process) { p.Args = []string{"/bin/text"} }), refused: true},
	{name: "args-no-interpreter", change: process(func(p *specs.Process) { p.Args = []string{"/bin/script"} }), refused: true},
	{name: "args-directory", change: process(func(p *specs.Process) { p.Args = []string{"/bin"} }), refused: true},
	{name: "exit-code", change: asks("fail:7")},
	{name: "exit-signal", change: all(without(specs.PIDNamespace), asks("kill:9"))},
	{name: "exit-abort", change: all(without(specs.PIDNamespace), process(func(p *specs.Process) {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_CORE"})
	}), asks("kill:6"))},
	{name: "apparmor-off", change: process(func(p *specs.Process) { p.ApparmorProfile = "container-default" })},
	{name: "selinux-off", change: func(s *spec) {
		s.Process.SelinuxLabel, s.Linux.MountLabel = "system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0"
	}},

	// The root file system and what hides in it.
	{name: "root-writable", change: all(func(s *spec) { s.Root.Readonly = false }, asks("make:/new", "make:/work/new", "make:/etc/new"))},
	{name: "masked", change: all(linux(func(l *specs.Linux) {
		l.MaskedPaths = []string{"/etc/secret", "/full", "/not/there", "/work/file"}
	}), asks("read:/etc/secret", "list:/full", "write:/etc/secret", "make:/full/new", "stat:/etc/secret"))},
	{name: "masked-symlink", change: all(linux(func(l *specs.Linux) { l.MaskedPaths = []string{"/tosecret", "/toetc"} }), asks("read:/etc/secret", "list:/etc"))},
	{name: "masked-none", change: all(linux(func(l *specs.Linux) { l.MaskedPaths, l.ReadonlyPaths = nil, nil }), asks("read:/proc/timer_list", "write:/proc/sys/kernel/hostname"))},
	{name: "readonly-paths", change: all(func(s *spec) { s.Root.Readonly = false }, linux(func(l *specs.Linux) {
		l.ReadonlyPaths = []string{"/full", "/work/file", "/not/there", "/tmp"}
	}), asks("make:/full/new", "write:/work/file", "make:/tmp/new", "make:/work/new"))},
	{name: "devices", change: all(linux(func(l *specs.Linux) {
		l.Devices = []specs.LinuxDevice{
			{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: ptr(fs.FileMode(0o660)), UID: ptr(uint32(5)), GID: ptr(uint32(6))},
			{Path: "/dev/sub/zero", Type: "c", Major: 1, Minor: 5},
			{Path: "/dev/pipe", Type: "p", FileMode: ptr(fs.FileMode(0o600))},
		}
	}), asks("stat:/dev/sub/zero"))},
	{name: "devices-default", change: linux(func(l *specs.Linux) {
		l.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, FileMode: ptr(fs.FileMode(0o600))}}
	})},
	{name: "devices-bind-dev", change: func(s *spec) {
		s.Mounts = append(slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool {
			return m.Destination == "/dev" || m.Destination == "/dev/pts" || m.Destination == "/dev/shm" || m.Destination == "/dev/mqueue"
		}),
			specs.Mount{Destination: "/dev", Type: "bind", Source: "/dev", Options: []string{"rbind", "rslave"}})
	}},
	{name: "devices-outside-dev", change: all(func(s *spec) { s.Root.Readonly = false }, linux(func(l *specs.Linux) {
		l.Devices = []specs.LinuxDevice{{Path: "/work/null", Type: "c", Major: 1, Minor: 3, FileMode: ptr(fs.FileMode(0o666))}}
	}), asks("stat:/work/null"))},
	{name: "resources", change: linux(func(l *specs.Linux) {
		l.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	})},

	// Mounts.
	{name: "mount-bind-file", setup: shared, teardown: unshared, change: all(add(bind("file", "/mnt/file", "bind", "ro")), asks("read:/mnt/file", "write:/mnt/file"))},
	{name: "mount-bind-dir", setup: shared, teardown: unshared, change: all(add(bind("dir", "/mnt/a", "bind")), asks("read:/mnt/a/file", "make:/mnt/a/new", "stat:/mnt/a/sub"))},
	{name: "mount-rbind", setup: shared, teardown: unshared, change: all(add(bind("dir", "/mnt/a", "rbind")), asks("stat:/mnt/a/sub", "make:/mnt/a/sub/new"))},
	{name: "mount-rbind-ro", setup: shared, teardown: unshared, change: all(add(bind("dir", "/mnt/a", "rbind", "ro")), asks("make:/mnt/a/new", "make:/mnt/a/sub/new"))},
	{name: "mount-rbind-rro", setup: shared, teardown: unshared, change: all(add(bind("dir", "/mnt/a", "rbind", "rro")), asks("make:/mnt/a/new", "make:/mnt/a/sub/new"))},
	{name: "mount-bind-of-link", setup: shared + "\nln -s dir " + top + "/shared/link", teardown: unshared, change: all(add(bind("link", "/mnt/a", "bind")), asks("read:/mnt/a/file"))},
	{name: "mount-bind-missing", change: add(bind("none", "/mnt/a", "bind")), refused: true},
	{name: "mount-bind-file-on-dir", setup: shared, teardown: unshared, change: add(bind("file", "/mnt/a", "bind")), refused: true},
	{name: "mount-new-point", setup: shared, teardown: unshared, change: all(func(s *spec) { s.Root.Readonly = false }, add(bind("dir", "/mnt/new/deep", "bind"), bind("file", "/mnt/newfile", "bind")), asks("stat:/mnt/new", "stat:/mnt/new/deep", "stat:/mnt/newfile"))},
	{name: "mount-new-point-readonly", setup: shared, teardown: unshared, change: all(add(bind("dir", "/mnt/new/deep", "bind")), asks("stat:/mnt/new"))},
	{name: "mount-on-symlink", setup: shared, teardown: unshared, change: all(add(bind("dir", "/tohome", "bind")), asks("stat:/tohome", "list:/home/user"))},
	{name: "mount-on-absolute-symlink", setup: shared, teardown: unshared, change: all(add(bind("dir", "/toetc/new", "bind")), func(s *spec) { s.Root.Readonly = false }, asks("list:/etc"))},
	{name: "mount-on-dangling-symlink", setup: shared, teardown: unshared, change: all(add(bind("dir", "/dangling", "bind")), func(s *spec) { s.Root.Readonly = false }, asks("list:/nothing/here"))},
	{name: "mount-through-up", setup: shared, teardown: unshared, change: all(add(bind("dir", "/up/new", "bind")), func(s *spec) { s.Root.Readonly = false }, asks("list:/etc"))},
	{name: "mount-dotdot", setup: shared, teardown: unshared, change: all(add(bind("dir", "/mnt/../../../mnt/a", "bind")), asks("list:/mnt/a"))},
	{name: "mount-order", setup: shared, teardown: unshared, change: all(add(tmpfs("/mnt/a", "mode=755"), bind("dir", "/mnt/a", "bind"), tmpfs("/mnt/a/in", "mode=700")), asks("stat:/mnt/a/in", "list:/mnt/a"))},
	{name: "mount-tmpfs", change: all(add(tmpfs("/mnt/a", "mode=1770", "size=1m", "uid=5", "gid=6", "nr_inodes=100"), tmpfs("/mnt/b")), asks("stat:/mnt/a", "stat:/mnt/b", "make:/mnt/b/new"))},
	{name: "mount-tmpfs-ro", change: all(add(tmpfs("/mnt/a", "ro", "mode=700")), asks("make:/mnt/a/new"))},
	{name: "mount-tmpcopyup", change: all(add(tmpfs("/full", "tmpcopyup", "mode=755")), asks("list:/full", "stat:/full/one", "stat:/full/sub", "stat:/full/link", "make:/full/new"))},
	{name: "mount-tmpfs-of-rootfs-mode", change: all(add(tmpfs("/home/user")), asks("stat:/home/user"))},
	{name: "mount-proc-options", change: func(s *spec) { s.Mounts[0].Options = []string{"nosuid", "nodev", "noexec", "hidepid=2"} }},
	{name: "mount-proc-subset", change: func(s *spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/mnt/a", Type: "proc", Source: "proc", Options: []string{"subset=pid"}})
		ask(s, "list:/mnt/a")
	}},
	{name: "mount-sysfs-rw", change: all(func(s *spec) {
		s.Mounts[5].Options = []string{"nosuid", "noexec", "nodev"}
	}, asks("write:/sys/kernel/uevent_helper", "write:/sys/class/net/lo/mtu"))},
	{name: "mount-cgroup", change: all(add(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}}), asks("write:/sys/fs/cgroup/cgroup.procs", "stat:/sys/fs/cgroup/cgroup.procs"))},
	{name: "mount-cgroup-rw", change: all(add(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime"}}), asks("write:/sys/fs/cgroup/cgroup.procs"))},
	{name: "mount-cgroup-host-ns", change: all(without(specs.CgroupNamespace), add(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}}), asks("write:/sys/fs/cgroup/cgroup.procs"))},
	{name: "mount-overlay", setup: shared + "\nmkdir -p " + top + "/shared/dir/in/l " + top + "/shared/dir/in/u " + top + "/shared/dir/in/w", teardown: unshared, change: all(add(specs.Mount{Destination: "/mnt/a", Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + top + "/shared/dir/in/l", "upperdir=" + top + "/shared/dir/in/u", "workdir=" + top + "/shared/dir/in/w"}}), asks("make:/mnt/a/new"))},
	{name: "mount-unknown-type", change: add(specs.Mount{Destination: "/mnt/a", Type: "nofs", Source: "none"}), refused: true},
	{name: "mount-bad-option", change: add(tmpfs("/mnt/a", "size=lots")), refused: true},
	{name: "mount-over-proc", setup: shared, teardown: unshared, change: add(bind("dir", "/proc", "bind")), refused: true},
	{name: "mount-over-proc-self", setup: shared, teardown: unshared, change: add(bind("dir", "/proc/self/attr", "bind")), refused: true},
	{name: "mount-on-proc-file", setup: shared, teardown: unshared, change: all(add(bind("file", "/proc/uptime", "bind", "ro")), asks("read:/proc/uptime"))},
	{name: "mount-remount", change: all(add(tmpfs("/mnt/a", "mode=755"), specs.Mount{Destination: "/mnt/a", Type: "none", Source: "none", Options: []string{"remount", "bind", "ro"}})), refused: true},

	// Hooks.
	{name: "hooks", change: func(s *spec) {
		s.Hooks = &specs.Hooks{
			Prestart:      []specs.Hook{hook("prestart")}, //nolint:staticcheck // old images use it.
			CreateRuntime: []specs.Hook{hook("createRuntime")}, CreateContainer: []specs.Hook{hook("createContainer")},
			StartContainer: []specs.Hook{inside("hook", "fail:0")}, Poststart: []specs.Hook{hook("poststart")}, Poststop: []specs.Hook{hook("poststop")},
		}
	}, setup: "rm -f " + top + "/hooks.log", after: "cat " + top + "/hooks.log"},
	{name: "hook-fails", change: func(s *spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}}
	}, refused: true},
	{name: "hook-inside-fails", change: func(s *spec) {
		s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{inside("hook", "fail:3")}}
	}, refused: true},
	{name: "hook-missing", change: func(s *spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/no-such-hook"}}}
	}, refused: true},
}, []testCase{
	propagation("private"), propagation("rprivate"), propagation("slave"), propagation("rslave"),
	propagation("shared"), propagation("rshared"), propagation("unbindable"), propagation("runbindable"),
	rootPropagation("private"), rootPropagation("slave"), rootPropagation("shared"), rootPropagation("unbindable"),
	mountOption("nosuid"), mountOption("nodev"), mountOption("noexec"), mountOption("ro"), mountOption("noatime"), mountOption("nodiratime"),
	mountOption("relatime"), mountOption("strictatime"), mountOption("nosymfollow"), mountOption("sync"), mountOption("dirsync"), mountOption("lazytime"),
	mountOption("rnosuid"), mountOption("rnoexec"),
}))
