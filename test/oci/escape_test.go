// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// escape is a configuration, or a root file system, with which containers have
// left other runtimes. It must be refused or be harmless.
type escape struct {
	testCase
	// harmful says what is wrong with a container that was not refused.
	harmful func(o *observation) string
	// repeat runs it several times, for races.
	repeat int
}

// untouched reports on files and mounts of the host that a container got at.
// Each case's setup makes /srv/host, with a file in it.
const untouched = `printf 'host.files\t%s\n' "$(find /srv/host | sort | tr '\n' ' ')"
printf 'host.file\t%s\n' "$(cat /srv/host/file)"
printf 'host.mountinfo\t%s\n' "$(grep -c . /proc/self/mountinfo)"
printf 'host.launcher\t%s\n' "$(cat /usr/libexec/atomic/atomic-* | sha256sum)"
printf 'host.sysctl\t%s\n' "$(cat /proc/sys/net/ipv4/ip_forward) $(cat /proc/sys/kernel/core_pattern)"`

// target is what the cases try to reach.
const target = `rm -rf /srv/host; mkdir -p /srv/host/dir; echo host >/srv/host/file; chmod 600 /srv/host/file
`

func value(key string, want ...string) func(*observation) string {
	return func(o *observation) string {
		if !slices.Contains(want, o.values[key]) {
			return fmt.Sprintf("%s is %q, want %q", key, o.values[key], want)
		}
		return ""
	}
}

// both joins checks.
func both(checks ...func(*observation) string) func(*observation) string {
	return func(o *observation) string {
		for _, c := range checks {
			if s := c(o); s != "" {
				return s
			}
		}
		return ""
	}
}

func withoutMount(target string) func(*spec) {
	return func(s *spec) {
		s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == target })
	}
}

// confined holds for every container.
func confined(o *observation) string {
	for key, v := range o.values {
		fd, isFD := strings.CutPrefix(key, "fd.")
		switch {
		case isFD && (fd != "0" && fd != "1" && fd != "2" || !strings.HasPrefix(v, "pipe:")):
			return fmt.Sprintf("descriptor %s is %s", fd, v)
		case key == "env" && strings.Contains(v, "_LIBCONTAINER"):
			return "the runtime's variables are in the environment"
		case key == "cwd" && (strings.HasPrefix(v, "(unreachable)") || v == "ENOENT"):
			return "the working directory is outside: " + v
		}
	}
	return value("tty", "0")(o)
}

func cwd(dir string) func(*spec) {
	return process(func(p *specs.Process) { p.Cwd = dir })
}

var escapes = withTwins(slices.Concat([]escape{
	// CVE-2019-5736: the launcher's own binary, through /proc/self/exe.
	{testCase{name: "exe-args", change: process(func(p *specs.Process) { p.Args = []string{"/proc/self/exe"} })}, nil, 1},
	{testCase{name: "exe-interpreter", change: process(func(p *specs.Process) { p.Args = []string{"/bin/evil"} }), setup: `printf '#!/proc/self/exe\n' >rootfs/bin/evil; chmod 755 rootfs/bin/evil`}, nil, 1},
	{testCase{name: "exe-symlink", change: process(func(p *specs.Process) { p.Args = []string{"/bin/evil"} }), setup: "ln -s /proc/self/exe rootfs/bin/evil"}, nil, 1},
	{testCase{name: "exe-of-init", change: func(s *spec) {
		s.Process.Capabilities = sets("CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN")
		s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{inside("hook", "write:/proc/1/exe", "fail:3")}}
	}}, func(o *observation) string {
		if strings.Contains(o.stderr, "write:/proc/1/exe\tok") || !strings.Contains(o.stderr, "write:/proc/1/exe") {
			return "init's executable can be written: " + o.stderr
		}
		return ""
	}, 1},

	// CVE-2019-19921, CVE-2023-27561, CVE-2025-52881: a /proc that is none.
	{testCase{name: "proc-symlink", setup: "rmdir rootfs/proc; mkdir rootfs/elsewhere; ln -s elsewhere rootfs/proc"}, nil, 1},
	{testCase{name: "sys-symlink", setup: "rmdir rootfs/sys; ln -s ../../../../../sys rootfs/sys"}, value("mount./sys", ""), 1},
	{testCase{name: "proc-covered", change: all(add(tmpfs("/proc/self", "mode=755"))), refused: true}, nil, 1},
	{testCase{name: "proc-sys-covered", change: all(add(tmpfs("/proc/sys/net", "mode=755")), linux(func(l *specs.Linux) { l.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} })), refused: true}, nil, 1},
	{testCase{name: "proc-sys-bound", setup: target, change: all(add(specs.Mount{Destination: "/proc/sys/net", Type: "bind", Source: "/srv/host", Options: []string{"bind"}}), linux(func(l *specs.Linux) { l.Sysctl = map[string]string{"net.file": "1"} })), refused: true}, nil, 1},
	{testCase{name: "sysctl-dots", change: linux(func(l *specs.Linux) { l.Sysctl = map[string]string{"net/../kernel/core_pattern": "x"} }), refused: true}, nil, 1},

	// CVE-2025-31133: /dev/null, with which files are masked, is another file.
	{
		testCase{
			name: "null-symlink", change: all(withoutMount("/dev"), withoutMount("/dev/pts"), withoutMount("/dev/shm"), withoutMount("/dev/mqueue"),
				linux(func(l *specs.Linux) { l.MaskedPaths = []string{"/etc/secret"} }), asks("read:/etc/secret", "write:/etc/secret")),
			setup: "ln -s /proc/sys/kernel/core_pattern rootfs/dev/null",
		},
		both(value("read:/etc/secret", "", "EACCES", "EPERM"), value("write:/etc/secret", "ok", "EROFS", "EACCES", "EPERM")), 1,
	},
	{testCase{
		name: "null-file", change: all(withoutMount("/dev"), withoutMount("/dev/pts"), withoutMount("/dev/shm"), withoutMount("/dev/mqueue"),
			linux(func(l *specs.Linux) { l.MaskedPaths = []string{"/etc/secret"} }), asks("read:/etc/secret")),
		setup: "echo planted >rootfs/dev/null",
	}, value("read:/etc/secret", ""), 1},
	// CVE-2025-52565: /dev/console and /dev/pts; a container has no terminal.
	{testCase{name: "console-symlink", change: asks("stat:/dev/console"), setup: "mkdir -p rootfs/dev; ln -s /proc/sys/kernel/core_pattern rootfs/dev/console"}, value("stat:/dev/console", "ENOENT"), 1},
	{testCase{name: "ptmx-symlink", change: all(withoutMount("/dev"), withoutMount("/dev/shm"), withoutMount("/dev/mqueue")), setup: "mkdir -p rootfs/dev/pts; ln -s /srv/host/file rootfs/dev/ptmx; " + target}, nil, 1},

	// CVE-2019-16884, CVE-2021-30465, CVE-2024-45310: mount points that lead out.
	{testCase{name: "target-up", setup: target + "ln -s ../../../../../../srv/host/dir rootfs/evil", change: all(add(tmpfs("/evil/new", "mode=700")), func(s *spec) { s.Root.Readonly = false })}, nil, 1},
	{testCase{name: "target-proc-root", setup: target + "ln -s /proc/1/root/srv/host rootfs/evil", change: all(add(tmpfs("/evil/dir")), func(s *spec) { s.Root.Readonly = false })}, nil, 1},
	{testCase{
		name: "target-in-volume", setup: target + "mkdir -p " + top + "/shared/v; ln -s ../../../../../../../../srv/host " + top + "/shared/v/link", teardown: "rm -rf " + top + "/shared",
		change: add(bind("v", "/mnt/a", "bind"), tmpfs("/mnt/a/link/dir")),
	}, nil, 1},
	{
		testCase{
			name: "target-race", setup: target + "mkdir -p " + top + "/shared/v/x/dir; ln -s ../../../../../../../../srv/host " + top + "/shared/v/y\n" +
				"rootfs/bin/probe swap " + top + "/shared/v/x " + top + "/shared/v/y >/dev/null 2>&1 &\nswapper=$!", teardown: "kill $swapper; umount -R -l " + top + "/shared; rm -rf " + top + "/shared",
			change: all(add(bind("v", "/mnt/a", "bind"), tmpfs("/mnt/a/x/dir", "mode=755"), tmpfs("/mnt/a/x/new", "mode=755")), asks("list:/mnt/a/x")),
		},
		func(o *observation) string {
			if strings.Contains(o.values["list:/mnt/a/x"], "file") {
				return "the host's directory is inside"
			}
			return ""
		}, 15,
	},
	{testCase{name: "readonly-path-symlink", setup: target + "ln -s /proc/sys/kernel rootfs/evil", change: all(linux(func(l *specs.Linux) { l.ReadonlyPaths = []string{"/evil"} }), asks("write:/proc/sys/kernel/core_pattern"))}, value("write:/proc/sys/kernel/core_pattern", "EROFS", "EACCES"), 1},
	{testCase{name: "device-symlink", setup: target + "ln -s ../../../../../../srv/host rootfs/work/evil", change: all(func(s *spec) { s.Root.Readonly = false }, linux(func(l *specs.Linux) {
		l.Devices = []specs.LinuxDevice{{Path: "/work/evil/null", Type: "c", Major: 1, Minor: 3}}
	}))}, nil, 1},
	{testCase{name: "cwd-symlink", setup: target + "ln -s ../../../../../../srv/host rootfs/evil", change: all(cwd("/evil"), func(s *spec) { s.Root.Readonly = false }, asks("read:file"))}, value("read:file", "ENOENT"), 1},

	// A cgroup tree that is the container's own.
	{
		testCase{name: "cgroup", change: all(caps(sets("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")), add(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev"}}),
			asks("list:/sys/fs/cgroup/..", "stat:/sys/fs/cgroup/release_agent", "stat:/sys/fs/cgroup/init.scope"))},
		both(value("cgroup", "0::/"), value("stat:/sys/fs/cgroup/release_agent", "ENOENT"), value("stat:/sys/fs/cgroup/init.scope", "ENOENT")), 1,
	},
}, workingDirectories()))

// withTwins adds every escape in a user namespace.
func withTwins(list []escape) []escape {
	var twins []escape
	for _, e := range list {
		e.testCase = inUserNS(e.testCase)
		twins = append(twins, e)
	}
	return slices.Concat(list, twins)
}

// workingDirectories are descriptors of the launcher, CVE-2024-21626.
func workingDirectories() []escape {
	var all []escape
	for fd := 3; fd < 15; fd++ {
		for _, self := range []string{"self", "1"} {
			all = append(all, escape{testCase{name: fmt.Sprintf("cwd-fd-%d-of-%s", fd, self), change: cwd(fmt.Sprintf("/proc/%s/fd/%d", self, fd))}, nil, 1})
		}
	}
	return all
}

func TestEscapes(t *testing.T) {
	ctx := life(t)
	var list []testCase
	for i := range escapes {
		c := &escapes[i]
		c.after = untouched
		if !strings.Contains(c.setup, target) {
			c.setup = target + c.setup
		}
		list = append(list, c.testCase)
	}
	l := newLab(ctx, t, list)
	before, err := l.bed.Run(ctx, "sh", "-c", target+untouched)
	if err != nil {
		t.Fatal(err)
	}
	host := map[string]string{}
	for line := range strings.Lines(before.Stdout) {
		key, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		host[key] = v
	}
	for _, c := range escapes {
		for _, e := range l.engines {
			if !e.ours {
				continue
			}
			t.Run(c.name+"/"+e.name, func(t *testing.T) {
				for range c.repeat {
					res, err := l.bed.Run(ctx, "sh", top+"/run", c.name, e.command)
					if err != nil {
						t.Fatal(err)
					}
					o := parse(res.Stdout)
					t.Logf("refused: %t, %s", o.refused(), o.stderr)
					for key, want := range host {
						// The runner's own lines survive a refusal.
						if got := field(res.Stdout, key); got != want {
							t.Errorf("%s is %q, was %q", key, got, want)
						}
					}
					switch {
					case e.refuses != "" && strings.Contains(o.stderr, e.refuses):
						t.Skip("not this engine's business")
					case c.refused && !o.refused():
						t.Errorf("was not refused\n%s", o)
					case o.refused() && c.name != "exe-of-init":
					case c.harmful != nil && c.harmful(o) != "":
						t.Error(c.harmful(o))
					case !o.refused() && confined(o) != "" && o.values["pid"] != "":
						t.Error(confined(o))
					}
				}
			})
		}
	}
}

// field is what the runner printed under a key.
func field(text, key string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "out "+key+"\t"); ok {
			return strings.TrimSuffix(v, "\n")
		}
	}
	return ""
}
