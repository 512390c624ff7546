// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"strings"
)

// shapeImages are well-formed images whose root file systems are hard to store
// right. /usr/bin/check-shape in each compares what it sees with /expected.
func shapeImages() []Image {
	shape := func(tag, why string, top ...Layer) Image {
		return helloPlus("library/shapes", tag, why, append([]Layer{{Embedded("shapes"), Embedded("shapes-" + tag)}}, top...)...)
	}
	return []Image{
		shape(
			"layers", "whiteouts, opaque directories, and every change of type from one layer to the next",
			Layer{Files{
				"shape/gone": text("1"), "shape/kept": text("1"), "shape/changed": text("1"),
				"shape/opaque/old": text("1"), "shape/opaque/deep/old": text("1"),
				"shape/dir-to-file/x": text("1"), "shape/file-to-dir": text("1"),
				"shape/dir-to-link/x": text("1"), "shape/link-to-dir": symlink("opaque"),
				"shape/gone-dir/a/b": text("1"), "shape/back": text("1"),
				"shape/mode": text("1"), "shape/linked": text("1"),
			}},
			Layer{literal{
				"shape": dir(0o755), "shape/.wh.gone": text(""), "shape/.wh.gone-dir": text(""), "shape/changed": text("22"),
				"shape/opaque": dir(0o750), "shape/opaque/.wh..wh..opq": text(""), "shape/opaque/new": text("2"),
				"shape/dir-to-file": text("2"), "shape/file-to-dir": dir(0o755), "shape/file-to-dir/x": text("2"),
				"shape/dir-to-link": symlink("kept"), "shape/link-to-dir": dir(0o755), "shape/link-to-dir/x": text("2"),
				"shape/.wh.back": text(""), "shape/mode": {typ: tar.TypeReg, mode: 0o600, uid: 7, gid: 8, data: []byte("1")},
			}},
			Layer{literal{
				"shape/back": text("3"),
				// A hard link to a file of a lower layer.
				"shape/linked-too": {typ: tar.TypeLink, mode: 0o644, link: "shape/linked"},
			}},
		),
		shape("files", "every kind of file, name, owner and attribute", Layer{literal{
			"shape":       dir(0o755),
			"shape/empty": text(""), "shape/inline": text("small"), "shape/page": text(strings.Repeat("p", 4096)),
			"shape/large":  text(strings.Repeat("0123456789abcde\n", 1<<16)),
			"shape/same-1": text("the same content, stored once by whoever can\n" + strings.Repeat("s", 5000)),
			"shape/same-2": text("the same content, stored once by whoever can\n" + strings.Repeat("s", 5000)),
			"shape/setuid": {typ: tar.TypeReg, mode: 0o4755, data: []byte("#!/bin/sh\n")},
			"shape/setgid": {typ: tar.TypeReg, mode: 0o2755, gid: 5, data: []byte("#!/bin/sh\n")},
			"shape/sticky": dir(0o1777), "shape/secret": {typ: tar.TypeReg, mode: 0, data: []byte("0")},
			"shape/owner": text("o").owner(4242, 2424), "shape/owner-big": text("o").owner(0x7fff0001, 0x7fff0002),
			"shape/fifo": {typ: tar.TypeFifo, mode: 0o644},
			"shape/link": symlink("inline"), "shape/dangling": symlink("/nowhere/at/all"),
			"shape/long-link": symlink("/" + strings.Repeat("d/", 2000) + "e"),
			"shape/hard-1":    text("hard"), "shape/hard-2": {typ: tar.TypeLink, mode: 0o644, link: "shape/hard-1"},
			"shape/xattr": {typ: tar.TypeReg, mode: 0o755, data: []byte("x"), xattrs: map[string]string{
				"user.comment": "hello", "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			}},
			"shape/new\nline":                              text("n"),
			"shape/sp ace \"quote\" \\slash":               text("s"),
			"shape/-dash":                                  text("-"),
			"shape/ünïcödé":                                text("u"),
			"shape/" + strings.Repeat("n", 255):            text("long name"),
			"shape/" + strings.Repeat("deep/", 60) + "end": text("deep"),
			"shape/.whisper":                               text("not a whiteout"),
		}}),
	}
}
