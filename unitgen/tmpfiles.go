// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/internal/paths"
)

const tmpfilesFile = "/exports/tmpfiles.template"

// tmpfilesLine is one line of a tmpfiles.d file.
type tmpfilesLine struct {
	kind   string // "d", "f+", …
	path   string
	mode   string
	arg    string
	offset int
}

// parseTmpfiles reads the rendered tmpfiles template and reports lines that
// systemd-tmpfiles would not accept or that name a path by a detour.
func parseTmpfiles(t *text, probs *Problems) []tmpfilesLine {
	if !checkControl(t, probs) {
		return nil
	}
	var all []tmpfilesLine
	offset := 0
	for line := range strings.Lines(string(t.out)) {
		at := offset
		offset += len(line)
		f, ok := tmpfilesFields(line)
		if !ok {
			probs.add(t.problem(at, "tmpfiles line has an escape or a quote in the middle of a field"))
			continue
		}
		if len(f) == 0 {
			continue
		}
		if len(f) < 2 || f[0] == "" || f[1] == "" {
			probs.add(t.problem(at, "tmpfiles line has no path"))
			continue
		}
		p := f[1]
		if !path.IsAbs(p) && !strings.HasPrefix(p, "%") || path.Clean(p) != strings.TrimSuffix(p, "/") && p != "/" {
			probs.add(t.problem(at, "tmpfiles path %q is not an absolute, clean path", p))
			continue
		}
		if strings.IndexByte("fFwdDevqQpLcbCxXrRzZtThHaA", f[0][0]) < 0 {
			probs.add(t.problem(at, "unknown tmpfiles line type %q", f[0]))
			continue
		}
		l := tmpfilesLine{kind: f[0], path: path.Clean(p), offset: at}
		if len(f) > 2 {
			l.mode = f[2]
		}
		if len(f) > 6 {
			l.arg = f[6]
		}
		all = append(all, l)
	}
	return all
}

// tmpfilesFields splits a line into at most seven fields, the last of which is
// the rest of the line. A field may be quoted as a whole; anything else that
// systemd-tmpfiles would unquote or unescape is not ok, so that a path is what
// it looks like.
func tmpfilesFields(line string) (fields []string, ok bool) {
	line = strings.Trim(line, blanks)
	if strings.HasPrefix(line, "#") {
		return nil, true
	}
	for line != "" {
		if len(fields) == 6 {
			return append(fields, line), true
		}
		word, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		if q := line[:1]; q == `"` || q == "'" {
			if word, rest, ok = strings.Cut(line[1:], q); !ok || rest != "" && strings.Trim(rest[:1], blanks) != "" {
				return nil, false
			}
		}
		if strings.ContainsAny(word, `\"'`) {
			return nil, false
		}
		fields = append(fields, word)
		line = strings.Trim(rest, blanks)
	}
	return fields, true
}

// tmpfiles renders the tmpfiles.d file and notes in r.made what it makes.
// Without a template there is a line for every bind source that the host
// lacks; an empty template suppresses that.
func (r *renderer) tmpfiles() {
	if r.in.Exports.Tmpfiles == nil {
		return
	}
	r.tmpText = substitute(tmpfilesFile, r.in.Exports.Tmpfiles, r.values, r.probs)
	if r.tmpText == nil {
		return
	}
	if !checkLines(r.tmpText, true, r.probs) {
		return
	}
	r.tmpLines = parseTmpfiles(r.tmpText, r.probs)
	for _, l := range r.tmpLines {
		switch l.kind[0] {
		case 'd', 'D', 'v', 'q', 'Q', 'C':
			r.made[l.path] = 'd'
		case 'f', 'F', 'w', 'p', 'c', 'b', 'L':
			r.made[l.path] = 'f'
		}
	}
	if len(r.tmpText.out) > 0 {
		r.out.Tmpfiles = r.tmpText.out
	}
}

// generateTmpfiles writes the file for a configuration without a template.
func (r *renderer) generateTmpfiles(spec *rspec.Spec) {
	if r.in.Exports.Tmpfiles != nil || r.in.Host.Exists == nil {
		return
	}
	var b strings.Builder
	b.Write(r.out.Tmpfiles) // the volumes of an image without templates
	done := map[string]bool{}
	for _, m := range spec.Mounts {
		if !isBind(m) || done[m.Source] || r.made[m.Source] != 0 || within(m.Source, paths.Host{}.RunRoot()) || r.in.Host.Exists(m.Source) {
			continue
		}
		done[m.Source] = true
		kind, mode := "d", "0700"
		if e, ok := r.lookup(r.resolve(m.Destination)); ok && e.Mode.IsRegular() {
			// A directory cannot be mounted on the file that the image has.
			kind, mode = "f", "0600"
		}
		if within(m.Source, "/dev") || within(m.Source, "/proc") || within(m.Source, "/sys") {
			r.warnf("the host has no %s, which the container mounts", m.Source)
			continue
		}
		if strings.ContainsFunc(m.Source, isControl) {
			continue // refused by the permission report
		}
		if kind == "d" && !r.own(m.Source) {
			r.warnf("the host has no %s: an empty directory is made for it", m.Source)
		}
		uid, gid := uint32(r.in.Host.UID), uint32(r.in.Host.GID)
		if slices.Contains(r.volumeSources, m.Source) {
			mode, uid, gid = "0755", spec.Process.User.UID, spec.Process.User.GID
		}
		fmt.Fprintf(&b, "%s %s %s %d %d - -\n", kind, quoteWord(m.Source), mode, uid, gid)
	}
	if b.Len() > 0 {
		r.out.Tmpfiles = []byte(b.String())
	}
}
