// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

const hostfsDir = "/exports/hostfs"

// hostFiles renders what /exports/hostfs puts on the host: files and symlinks,
// and directories that are empty in the image. The directories on the way are
// not listed; whoever installs makes them, mode 0755.
func (r *renderer) hostFiles(m Manifest) {
	r.out.Renames = r.renames(m)
	templates := map[string]bool{}
	for _, p := range m.InstalledFilesTemplate {
		// A path that follows a renamed file needs the same variables.
		if t := substitute(manifestFile, []byte(p), r.values, r.probs); t != nil {
			templates[string(t.out)] = false
		}
	}
	populated := map[string]bool{}
	for _, f := range r.in.Exports.HostFS {
		populated[path.Dir(f.Path)] = true
	}
	seen := map[string]string{}
	for _, f := range r.in.Exports.HostFS {
		src := hostfsDir + f.Path
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || strings.ContainsFunc(f.Path, isControl) {
			r.probs.addf(src, 0, 0, "is not a clean path")
			continue
		}
		if f.Mode.IsDir() && populated[f.Path] {
			continue
		}
		dest := renamed(f.Path, r.out.Renames)
		if first, ok := seen[dest]; ok && !f.Mode.IsDir() {
			r.probs.addf(src, 0, 0, "would be installed at %s, as %s is", dest, first)
			continue
		}
		seen[dest] = src
		f.Path = dest
		switch {
		case f.Mode.IsDir():
			f.Mode = fs.ModeDir | 0o755
		case f.Mode.IsRegular():
			if _, ok := templates[dest]; ok {
				templates[dest] = true
				if t := substitute(src, f.Content, r.values, r.probs); t != nil {
					f.Content = t.out
				}
				r.out.HostFileTemplates = append(r.out.HostFileTemplates, dest)
			}
		case f.Mode&fs.ModeSymlink != 0:
			f.Mode = fs.ModeSymlink | 0o777
		default:
			r.probs.addf(src, 0, 0, "is neither a file, a directory nor a symlink")
			continue
		}
		// The image's owner means nothing on the host; its setuid bit must
		// not come to mean another owner's.
		if f.Mode&(fs.ModeSetuid|fs.ModeSetgid) == 0 {
			f.UID, f.GID = 0, 0
		}
		r.out.HostFiles = append(r.out.HostFiles, f)
		r.noteMade(f)
	}
	for _, p := range slices.Sorted(maps.Keys(templates)) {
		if !templates[p] {
			r.warnf("manifest.json lists the template %s, but no file is installed there", p)
		}
	}
	r.checkLinks()
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// renames are the manifest's renameFiles with their destinations substituted.
func (r *renderer) renames(m Manifest) map[string]string {
	out := map[string]string{}
	doc := plain(manifestFile, r.in.Exports.Manifest)
	for _, src := range slices.Sorted(maps.Keys(m.RenameFiles)) {
		var probs Problems
		t := substitute(manifestFile, []byte(m.RenameFiles[src]), r.values, &probs)
		for _, p := range probs.List {
			r.probs.add(doc.problem(m.renameAt[src], "%s", p.Text))
		}
		r.probs.Unset = append(r.probs.Unset, probs.Unset...)
		if t == nil {
			continue
		}
		dst := string(t.out)
		if !path.IsAbs(dst) || path.Clean(dst) != strings.TrimSuffix(dst, "/") || strings.ContainsFunc(dst, isControl) {
			r.probs.add(doc.problem(m.renameAt[src], "renameFiles: %q: %q is not an absolute, clean path", src, dst))
			continue
		}
		out[path.Clean(src)] = path.Clean(dst)
	}
	return out
}

// renamed walks the components of p and remaps every prefix that has a new
// name, so that directories can be renamed and renames chain.
func renamed(p string, renames map[string]string) string {
	cur := "/"
	for c := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		cur = path.Join(cur, c)
		if to, ok := renames[cur]; ok {
			cur = to
		}
	}
	return cur
}

// checkLinks refuses files whose way leads through a symlink of the same
// image: they would land somewhere else than the report says.
func (r *renderer) checkLinks() {
	links := map[string]bool{}
	for _, f := range r.out.HostFiles {
		if f.Mode&fs.ModeSymlink != 0 {
			links[f.Path] = true
		}
	}
	for _, f := range r.out.HostFiles {
		for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
			if links[dir] {
				r.probs.addf(hostfsDir+f.Path, 0, 0, "would be installed through %s, a symlink of the same image", dir)
			}
		}
	}
}

// noteMade notes in r.made what is on the host once f is installed: its
// directories and f itself. What a symlink leads to is not known here.
func (r *renderer) noteMade(f HostFile) {
	kinds := map[string]byte{}
	for p := path.Dir(f.Path); p != "/"; p = path.Dir(p) {
		kinds[p] = 'd'
	}
	switch {
	case f.Mode.IsDir():
		kinds[f.Path] = 'd'
	case f.Mode.IsRegular():
		kinds[f.Path] = 'f'
	}
	for p, kind := range kinds {
		if r.made[p] == 0 {
			r.made[p] = kind
		}
	}
}
