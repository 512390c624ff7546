#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Prints a command line that runs upstream's mkcomposefs, with which the tests
# of install/store/erofs compare every byte: ATOMIC_MKCOMPOSEFS=$(test/oracle/mkcomposefs.sh).
#
# Only Debian forky and newer have it. If it is not installed, the packages are
# unpacked into the test cache, with the C library they were built for, and
# nothing is installed.
set -eu

if command -v mkcomposefs; then
	exit 0
fi

# shellcheck source=test/oracle/fetch.sh
. "$(dirname "$0")/fetch.sh"
packages="composefs libcomposefs1 libc6 libssl3t64 zlib1g libzstd1"
arch=$(dpkg --print-architecture)

if ! cached "composefs-$suite-$arch"; then
	prepare
	fetch "dists/$suite/main/binary-$arch/Packages.xz" "$tmp/Packages.xz"
	xz -dc "$tmp/Packages.xz" | awk '/^Package: / { p = $2 } /^Filename: / { f = $2 } /^SHA256: / { print p, f, $2 }' >"$tmp/index"
	for p in $packages; do
		line=$(grep "^$p " "$tmp/index")
		fetch "$(echo "$line" | cut -d' ' -f2)" "$tmp/$p.deb" "SHA256:$(echo "$line" | cut -d' ' -f3)"
		dpkg-deb -x "$tmp/$p.deb" "$tmp/root"
	done
	publish
fi

lib=$(dirname "$(echo "$cache"/usr/lib/*/libcomposefs.so.1)")
echo "$(echo "$lib"/ld-linux*.so.*) --library-path $lib $cache/usr/bin/mkcomposefs"
