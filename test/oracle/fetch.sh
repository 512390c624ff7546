# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# What both programs here need, sourced by them: the suite, the mirror, and how
# something from it becomes a directory of the test cache.

# shellcheck disable=SC2034 # read by who sources this
suite=forky
mirror=${ATOMIC_TEST_MIRROR:-http://deb.debian.org/debian}

# cached NAME sets cache to a directory of the test cache, and succeeds if it exists.
cached() {
	cache=${ATOMIC_TEST_CACHE:-$HOME/.cache/atomic-test}/oracle/$1
	[ -d "$cache" ]
}

# prepare makes $tmp/root, to be filled and published.
prepare() {
	mkdir -p "$(dirname "$cache")"
	tmp=$(mktemp -d "$cache.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	mkdir "$tmp/root"
}

# publish makes $tmp/root the cached directory, unless somebody was faster.
publish() {
	mv -T "$tmp/root" "$cache" 2>/dev/null || [ -d "$cache" ]
}

# fetch PATH FILE [HASH] downloads from the mirror.
fetch() {
	path=$1
	shift
	/usr/lib/apt/apt-helper -qq -o APT::Sandbox::User=root download-file "$mirror/$path" "$@" >&2
}
