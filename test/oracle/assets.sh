#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Prints the directory with upstream composefs' test assets, with which the tests
# of install/store/erofs compare: ATOMIC_COMPOSEFS_ASSETS=$(test/oracle/assets.sh).
#
# They are in Debian's source package, which is unpacked into the test cache.
set -eu

# shellcheck source=test/oracle/fetch.sh
. "$(dirname "$0")/fetch.sh"

if ! cached "composefs-$suite-assets"; then
	prepare
	fetch "dists/$suite/main/source/Sources.xz" "$tmp/Sources.xz"
	xz -dc "$tmp/Sources.xz" | awk '
		/^Package: / { mine = $2 == "composefs"; sums = 0 }
		/^[A-Z]/ { sums = /^Checksums-Sha256:/ }
		mine && /^Directory: / { dir = $2 }
		mine && sums && /orig\.tar\.[a-z0-9]+$/ { hash = $1; name = $3 }
		END { print dir "/" name, hash }' >"$tmp/index"
	read -r path hash <"$tmp/index"
	fetch "$path" "$tmp/source.tar" "SHA256:$hash"
	tar -xf "$tmp/source.tar" -C "$tmp/root" --strip-components=3 --wildcards '*/tests/assets/*'
	publish
fi
echo "$cache"
