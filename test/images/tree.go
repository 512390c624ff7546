// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// file is one entry of a layer.
type file struct {
	typ      byte  // of package tar
	mode     int64 // permission bits, setuid and the like included
	uid, gid int
	data     []byte
	link     string
	xattrs   map[string]string
}

// tree is the content of a layer by path, without a leading slash.
type tree map[string]file

// dir, text, program and symlink make entries owned by root.
func dir(mode int64) file { return file{typ: tar.TypeDir, mode: mode} }

func text(s string) file { return file{typ: tar.TypeReg, mode: 0o644, data: []byte(s)} }

func program(data []byte) file { return file{typ: tar.TypeReg, mode: 0o755, data: data} }

func symlink(target string) file { return file{typ: tar.TypeSymlink, mode: 0o777, link: target} }

func (f file) owner(uid, gid int) file {
	f.uid, f.gid = uid, gid
	return f
}

// add puts a file into the tree, with the directories above it.
func (t tree) add(name string, f file) {
	name = strings.Trim(name, "/")
	t[name] = f
	for d := path.Dir(name); d != "."; d = path.Dir(d) {
		if _, ok := t[d]; !ok {
			t[d] = dir(0o755)
		}
	}
}

// hardlink makes name another name of target, which the tree has. The one of
// them that comes first in the archive holds the data.
func (t tree) hardlink(name, target string) error {
	f, ok := t[target]
	if !ok {
		return fmt.Errorf("link %s to %s: no such file", name, target)
	}
	if name < target {
		t[name], f = f, file{typ: tar.TypeLink, mode: f.mode, uid: f.uid, gid: f.gid, link: name}
		t[target] = f
		return nil
	}
	t[name] = file{typ: tar.TypeLink, mode: f.mode, uid: f.uid, gid: f.gid, link: target}
	return nil
}

// writeTo writes the tree as a tar archive, sorted by path.
func (t tree) writeTo(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		f := t[name]
		h := &tar.Header{
			Name: name, Typeflag: f.typ, Mode: f.mode, Uid: f.uid, Gid: f.gid,
			Size: int64(len(f.data)), Linkname: f.link, ModTime: Epoch,
		}
		if f.typ == tar.TypeDir {
			h.Name += "/"
		}
		for _, k := range slices.Sorted(maps.Keys(f.xattrs)) {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = f.xattrs[k]
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if _, err := tw.Write(f.data); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return tw.Close()
}

// key describes a tree for Image.Key.
func (t tree) key() string {
	type entry struct {
		Name     string
		Type     byte
		Mode     int64
		UID, GID int
		Data     []byte
		Link     string
		Xattrs   map[string]string
	}
	var list []entry
	for _, name := range slices.Sorted(maps.Keys(t)) {
		f := t[name]
		list = append(list, entry{name, f.typ, f.mode, f.uid, f.gid, f.data, f.link, f.xattrs})
	}
	return hashJSON(list)
}
