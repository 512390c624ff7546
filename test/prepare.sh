#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building, the tests, the demo and the benchmarks need, on
# Debian 12 or 13. Asks dpkg first: with nothing to do it takes no time and
# needs neither root nor a network.
#
#   test/prepare.sh        all but the virtual machine
#   test/prepare.sh --vm   that as well (QEMU 10, from backports on Debian 12)
set -euo pipefail

# Build: the launcher is a static cgo program. Beds: mmdebstrap and what boots
# them. Images: docker-registry, and mke2fs for fs-verity.
packages=(
	ca-certificates debian-archive-keyring docker-registry e2fsprogs gcc git
	libc6-dev libseccomp-dev make mmdebstrap mount pkg-config procps shellcheck
	swtpm systemd util-linux xz-utils zstd
)
vm_packages=(qemu-system-x86 qemu-utils)

say() { echo "prepare: $*" >&2; }

die() {
	say "error: $1"
	[ $# -lt 2 ] || say "hint: $2"
	exit 1
}

installed() {
	[ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]
}

# The Debian archive that the machine uses already.
mirror() {
	local uri
	uri=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
		grep -v '^#' | grep -oE '(https?|file|ftp)://[^ ]*/debian/?( |$)' | head -n 1)
	echo "${uri:-http://deb.debian.org/debian}"
}

updated=
update() {
	[ -z "$updated" ] || return 0
	apt-get -qq update
	updated=yes
}

apt_install() {
	[ "$(id -u)" = 0 ] || die "not root, and to install: $*" "run test/prepare.sh as root once"
	update
	say "installing $*"
	local log
	log=$(mktemp)
	if ! DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		die "apt-get install failed"
	fi
	rm -f "$log"
}

# Debian 12 is too old for some things; its backports are not.
use_backports() {
	local list=/etc/apt/sources.list.d/atomic-backports.list
	grep -rqs "^[^#]*$codename-backports" /etc/apt/sources.list /etc/apt/sources.list.d && return
	[ "$(id -u)" = 0 ] || die "not root, and to add: $list" "run test/prepare.sh as root once"
	say "adding $list"
	echo "deb $(mirror) $codename-backports main" >"$list"
	updated=
}

# The tests start their own registry; this machine should not serve one.
mask_registry() {
	if [ -d /run/systemd/system ] && ! installed docker-registry; then
		systemctl --quiet mask docker-registry.service
	fi
}

prepare_packages() {
	local missing=() p
	for p in "${packages[@]}"; do
		installed "$p" || missing+=("$p")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	mask_registry
	apt_install "${missing[@]}"
}

# Any go since 1.21 fetches the one that go.mod asks for.
prepare_go() {
	local version
	if version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) &&
		[ "$(printf '%s\n' go1.21 "${version%% *}" | sort -V | head -n 1)" = go1.21 ]; then
		return
	fi
	if [ "$codename" = bookworm ]; then
		use_backports
		apt_install -t bookworm-backports golang-go
	else
		apt_install golang-go
	fi
}

# The software emulation of QEMU before 10 corrupts flags and panics guests.
prepare_vm() {
	local version missing=() p
	version=$(dpkg-query --show --showformat='${Version}' qemu-system-x86 2>/dev/null || true)
	for p in "${vm_packages[@]}"; do
		installed "$p" || missing+=("$p")
	done
	if [ ${#missing[@]} = 0 ] && dpkg --compare-versions "$version" ge 1:10; then
		return
	fi
	if [ "$codename" = bookworm ]; then
		use_backports
		apt_install -t bookworm-backports "${vm_packages[@]}"
	else
		apt_install "${vm_packages[@]}"
	fi
}

command -v apt-get >/dev/null || die "this is not Debian" "see the lists of packages in test/prepare.sh"
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")

prepare_packages
prepare_go
case "${1-}" in
"") ;;
--vm) prepare_vm ;;
*) die "unknown argument $1" "test/prepare.sh [--vm]" ;;
esac
