#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh TIME [PATTERN]: runs every fuzz target whose name matches for TIME.
# What fails is kept by go test in the package's testdata/fuzz, as a seed.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s} pattern=${2:-.}
tags=containers_image_openpgp,seccomp
failed=()
mapfile -t targets < <(git grep -o '^func Fuzz[A-Za-z0-9]*' -- '*_test.go' | sed 's|\(.*\)/[^/]*:func \(.*\)|\1.\2|')
for t in "${targets[@]}"; do
	[[ $t =~ $pattern ]] || continue
	echo "== $t"
	go test -tags $tags -run '^$' -fuzz "^${t##*.}\$" -fuzztime "$time" -fuzzminimizetime 10x "./${t%.*}" || failed+=("$t")
done
if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[@]}"
	exit 1
fi
