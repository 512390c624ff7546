// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// shifted gives the root file system to the IDs of the user namespace, as an
// id-mapped mount does.
const shifted = `chown -R -h --from=0:0 100000:100000 rootfs
chown -R -h --from=1000:1000 101000:101000 rootfs
`

// withUserNS adds to every case its twin in a user namespace, and what only
// concerns those.
func withUserNS(cases []testCase) []testCase {
	var twins []testCase
	for _, c := range cases {
		if !strings.Contains(c.name, "userns") && !strings.Contains(c.name, "idmap") {
			twins = append(twins, inUserNS(c))
		}
	}
	return slices.Concat(cases, twins, volumes)
}

// inUserNS is a case's twin. What others than atomic make of it has been seen
// without the user namespace.
func inUserNS(c testCase) testCase {
	change := c.change
	c.name, c.twin, c.setup = "in-userns-"+c.name, true, shifted+c.setup
	c.change = func(s *spec) {
		if change != nil {
			change(s)
		}
		userns()(s)
	}
	return c
}

// locked is a directory on a mount of its own, with options, and one that only
// root of the host can reach.
func locked(options string) string {
	return `mkdir -p ` + top + `/shared/locked ` + top + `/shared/closed/dir
mount -t tmpfs -o mode=755,` + options + ` locked ` + top + `/shared/locked
echo closed >` + top + `/shared/closed/dir/file
chmod 700 ` + top + `/shared/closed`
}

const unlocked = `umount ` + top + `/shared/locked
rm -rf ` + top + `/shared`

// closed is the directory that only root of the host can reach.
func closed(options ...string) specs.Mount { return bind("closed/dir", "/mnt/b", options...) }

// volumes are what a container with a user namespace shows of the host.
var volumes = []testCase{
	{name: "userns-volumes", setup: shifted + shared, teardown: unshared, change: all(userns(), user(1000, 1000), add(
		bind("plain", "/mnt/a", "bind", "idmap", "nosuid", "nodev"), bind("plain", "/mnt/b", "rbind"), bind("file", "/mnt/file", "bind", "ro", "idmap"),
	), asks("stat:/mnt/a/file", "stat:/mnt/a/of1000", "make:/mnt/a/new", "write:/mnt/a/of1000", "stat:/mnt/b/of1000", "write:/mnt/b/of1000", "make:/mnt/b/new", "read:/mnt/file", "write:/mnt/file")), after: `printf 'host.owner\t%s\n' "$(stat -c %u:%g ` + top + `/shared/plain/of1000)"`},
	{name: "userns-volume-read-only", setup: shifted + shared, teardown: unshared, change: all(userns(), add(
		bind("plain", "/mnt/a", "bind", "idmap", "ro"), bind("dir", "/mnt/b", "rbind", "ridmap", "rro")), asks("make:/mnt/a/new", "make:/mnt/b/new", "make:/mnt/b/sub/new"))},
	{name: "userns-volume-top-only", setup: shifted + shared, teardown: unshared, change: all(userns(), add(bind("dir", "/mnt/a", "rbind", "idmap")), asks("stat:/mnt/a/file", "stat:/mnt/a/sub", "make:/mnt/a/sub/new"))},
	{name: "userns-volume-propagation", setup: shifted + shared + "\nmount --make-shared " + top + "/shared/dir/sub", teardown: unshared, change: all(userns(), add(bind("dir", "/mnt/a", "rbind", "ridmap", "rshared")), asks("stat:/mnt/a/sub"))},
	{name: "userns-volume-new-point", setup: shifted + shared, teardown: unshared, change: all(userns(), func(s *spec) { s.Root.Readonly = false }, add(bind("plain", "/mnt/new/deep", "bind", "idmap")), asks("stat:/mnt/new", "stat:/mnt/new/deep"))},
	{name: "userns-volume-missing", setup: shifted, change: all(userns(), add(bind("none", "/mnt/a", "bind", "idmap"))), refused: true},
	{name: "userns-volume-of-proc", setup: shifted, change: all(userns(), add(specs.Mount{Destination: "/mnt/a", Type: "bind", Source: "/proc/sys", Options: []string{"bind", "idmap"}})), refused: true},
	{name: "userns-closed", setup: shifted + locked("rw"), teardown: unlocked, change: all(userns(), add(closed("bind", "ro")), asks("read:/mnt/b/file", "make:/mnt/b/new"))},
	{name: "userns-closed-idmap", setup: shifted + locked("rw"), teardown: unlocked, change: all(userns(), add(closed("rbind", "idmap")), asks("read:/mnt/b/file", "make:/mnt/b/new"))},
	{name: "userns-locked", setup: shifted + locked("nosuid,nodev,noexec,ro"), teardown: unlocked, change: all(userns(), add(
		bind("locked", "/mnt/a", "bind", "nosuid"), bind("locked", "/mnt/b", "bind", "idmap")), asks("make:/mnt/a/new", "make:/mnt/b/new"))},
	{name: "userns-locked-idmap", setup: shifted + locked("nosuid,nodev,noexec,noatime,nodiratime"), teardown: unlocked, change: all(userns(), caps(sets("CAP_SYS_ADMIN")), add(bind("locked", "/mnt/b", "bind", "idmap", "nodev")), asks("make:/mnt/b/new"))},
	{name: "userns-locked-rw", setup: shifted + locked("ro"), teardown: unlocked, change: all(userns(), add(bind("locked", "/mnt/a", "bind", "rw"))), refused: true},
	{name: "userns-locked-exec", setup: shifted + locked("noexec"), teardown: unlocked, change: all(userns(), add(bind("locked", "/mnt/a", "bind", "idmap", "exec"))), refused: true},
	{name: "userns-locked-time", setup: shifted + locked("noatime"), teardown: unlocked, change: all(userns(), add(bind("locked", "/mnt/a", "bind", "noatime")))},
	{name: "userns-locked-other-time", setup: shifted + locked("noatime"), teardown: unlocked, change: all(userns(), add(bind("locked", "/mnt/a", "bind", "relatime"))), refused: true},
	{name: "userns-locked-root", setup: shifted + "mount --bind rootfs rootfs; mount -o remount,bind,nosuid,nodev rootfs", teardown: "umount rootfs", change: userns()},
	{name: "userns-few-ids", setup: shifted, change: userns(specs.LinuxIDMapping{ContainerID: 0, HostID: 100000, Size: 6})},
	{name: "userns-one-id", setup: shifted, change: userns(specs.LinuxIDMapping{ContainerID: 0, HostID: 100000, Size: 1}), refused: true},
	{name: "userns-root-unmapped", setup: shifted, change: all(userns(specs.LinuxIDMapping{ContainerID: 1000, HostID: 101000, Size: 1}), user(1000, 1000)), refused: true},
	{name: "userns-like-an-image", setup: shifted + shared, teardown: unshared, change: all(userns(), user(1000, 1000, 1001), func(s *spec) {
		s.Mounts[5] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rro", "nosuid", "noexec", "nodev"}}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
			tmpfs("/run", "nosuid", "nodev", "mode=755"), bind("plain", "/mnt/a", "bind", "idmap", "nosuid", "nodev"))
	}, without(specs.NetworkNamespace), caps(&specs.LinuxCapabilities{
		Bounding: []string{"CAP_NET_BIND_SERVICE"}, Effective: []string{"CAP_NET_BIND_SERVICE"}, Permitted: []string{"CAP_NET_BIND_SERVICE"}, Inheritable: []string{"CAP_NET_BIND_SERVICE"}, Ambient: []string{"CAP_NET_BIND_SERVICE"},
	}), seccomp(deny(specs.ActErrno, nil, "mkdir", "unshare")), asks("syscalls", "mounts", "make:/mnt/a/new", "write:/sys/kernel/uevent_helper"))},
}
