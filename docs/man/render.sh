#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# render.sh MD2MAN VERSION DIRECTORY renders the pages beside this script by
# go-md2man. A page that describes several commands gets a link for each.
set -eu

md2man=$1 version=$2 out=$3
mkdir -p "$out"
for page in "$(dirname "$0")"/*.md; do
	file=$(basename "$page" .md)
	section=${file##*.}
	# A backslash at the end of a line breaks it on GitHub, two blanks everywhere.
	sed "s/\\\\\$/  /; 1s/^# \(.*\)(\(.\))\$/% \1 \"\2\" \"\" \"atomic $version\" \"atomic\"/" "$page" | "$md2man" >"$out/$file"
	sed -n '/^## NAME/{n;n;s/ - .*//;s/, /\n/g;p}' "$page" | while read -r name; do
		[ "$name.$section" = "$file" ] || echo ".so man$section/$file" >"$out/$name.$section"
	done
done
