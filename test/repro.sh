#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the binaries a second time, from a copy of the source in another
# directory, and compares them with those in bin/.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -cf - | tar -C "$copy" -xf -
version=$(git describe --tags --always 2>/dev/null || echo unknown)
make -C "$copy" --no-print-directory build VERSION="$version"
for program in atomic atomic-launch atomic-start atomic-init atomic-enter; do
	cmp "bin/$program" "$copy/bin/$program"
	echo "reproducible: $program $(sha256sum <"bin/$program" | cut -c1-16)"
done
