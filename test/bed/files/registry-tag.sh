#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# registry-tag REPOSITORY SOURCE TARGET: makes the tag TARGET in the test
# registry name what SOURCE names, as a publisher of a new version does.
set -eu
tags=/var/lib/registry/docker/registry/v2/repositories/$1/_manifests/tags
link=$(cat "$tags/$2/current/link")
mkdir -p "$tags/$3/current" "$tags/$3/index/sha256/${link#sha256:}"
printf %s "$link" >"$tags/$3/index/sha256/${link#sha256:}/link"
printf %s "$link" >"$tags/$3/current/link.new"
mv "$tags/$3/current/link.new" "$tags/$3/current/link"
