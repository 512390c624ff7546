# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Runs as process 1 of a new bed, in its new namespaces but still in the
# machine's root: builds the bed's root file system and becomes its systemd.
# $1 is the bed's state directory, $2 the overlay's lower layers, $3 the host
# name, $4 the terminal that becomes /dev/console.
set -eu
state=$1 lower=$2 hostname=$3 console=$4
root=$state/root

mount --make-rprivate /
mount -t overlay -o "lowerdir=$lower,upperdir=$state/upper,workdir=$state/work" bed "$root"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"

# Device nodes; the console is a pseudo terminal of the machine.
cp -a "$state/dev/." "$root/dev/"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount --bind "$console" "$root/dev/console"

# The kernel is shared: a bed may change its network's settings, nothing else.
# What it writes to /sys/fs/cgroup is its own hierarchy's root.
echo "$hostname" >/proc/sys/kernel/hostname
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
if [ -e "$root/proc/sysrq-trigger" ]; then
	mount --bind "$root/proc/sysrq-trigger" "$root/proc/sysrq-trigger"
	mount -o remount,bind,ro "$root/proc/sysrq-trigger"
fi
mount --bind "$state/boot_id" "$root/proc/sys/kernel/random/boot_id"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount -o remount,bind,ro "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"

# A user namespace may mount proc and sysfs only where unobstructed ones are
# visible already; the ones above are not.
mkdir -m 0700 "$root/run/bed"
mkdir "$root/run/bed/proc" "$root/run/bed/sys" "$root/run/bed/old"
mount -t proc -o nosuid,nodev,noexec proc "$root/run/bed/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/run/bed/sys"
: >"$root/run/bed/notify"
mount --bind "$state/notify" "$root/run/bed/notify"

# One line for each bind mount: options, source and target, separated by tabs.
tab=$(printf '\t')
while IFS=$tab read -r options source target; do
	if [ -d "$source" ]; then
		mkdir -p "$root$target"
	else
		mkdir -p "$(dirname "$root$target")"
		[ -e "$root$target" ] || : >"$root$target"
	fi
	mount --bind "$source" "$root$target"
	mount -o "remount,bind,$options" "$root$target"
done <"$state/binds"

cd "$root"
pivot_root . run/bed/old
exec <>dev/console >&0 2>&1
umount -l run/bed/old
rmdir run/bed/old
# As on a machine, where systemd does it itself: what a service's credentials
# are mounted on must appear everywhere.
mount --make-rshared /
exec env -i container=bed NOTIFY_SOCKET=/run/bed/notify TERM=dumb \
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin /usr/lib/systemd/systemd
