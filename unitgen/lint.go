// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/internal/paths"
)

// Finding is something that the author of an image should change.
type Finding struct {
	// Level is "error" for what breaks the contract and "warning" for what
	// works but should not be done.
	Level  string `json:"level"`
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
}

func (f Finding) String() string {
	return f.Level + ": " + Problem{File: f.File, Line: f.Line, Column: f.Column, Text: f.Text}.String()
}

// linter collects findings.
type linter struct {
	e        Exports
	m        Manifest
	findings []Finding
	// values fill every variable with something of the right kind.
	values map[string]string
}

// Lint checks the templates of an image for its author, without values and
// without a host.
func Lint(e Exports) []Finding {
	l := &linter{e: e}
	var err error
	l.m, err = ParseManifest(e.Manifest)
	l.problems(err)
	if e.Manifest == nil {
		l.add("warning", Problem{File: manifestFile, Text: "is missing, so no variable has a default"})
	}
	l.placeholders()
	l.config()
	l.service()
	l.tmpfiles()
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(l.findings)
}

func (l *linter) add(level string, p Problem) {
	l.findings = append(l.findings, Finding{level, p.File, p.Line, p.Column, p.Text})
}

func (l *linter) problems(err error) {
	if p, ok := err.(*Problems); ok && p != nil { //nolint:errorlint // these functions return nothing else.
		for _, q := range p.List {
			l.add("error", q)
		}
	}
}

// placeholders warns of variables that only --set can give a value, and makes
// values for all.
func (l *linter) placeholders() {
	in := Input{Name: "lint", DestDir: paths.Host{}.Deployment("lint", 0), Host: HostFacts{Launcher: paths.Launcher}}
	l.values = values(&in, l.m)
	used := usedVariables(l.e, l.m)
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if _, ok := l.values[name]; !ok {
			u := used[name]
			l.add("warning", Problem{File: u.file, Line: u.line, Column: u.column, Text: fmt.Sprintf("$%s has no default: every installation needs --set %s=VALUE", name, name)})
			l.values[name] = "1"
		}
	}
	for name := range l.m.DefaultValues {
		if _, ok := used[name]; !ok {
			l.add("warning", Problem{File: manifestFile, Text: fmt.Sprintf("no template uses the default value %s", name)})
		}
	}
}

func (l *linter) config() {
	var probs Problems
	var t *text
	switch {
	case l.e.ConfigJSON != nil:
		l.add("error", Problem{File: configFile, Line: 1, Text: "is used verbatim: make it config.json.template, so that its values can be set"})
		t = plain(configFile, l.e.ConfigJSON)
	case l.e.ConfigTemplate != nil:
		t = substitute(configTemplateFile, l.e.ConfigTemplate, l.values, &probs)
	default:
		return
	}
	if t != nil {
		checkFragments(t, &probs)
		if spec := parseConfig(t, &probs); spec != nil {
			l.spec(t, spec)
		}
	}
	l.problems(probs.err())
}

func (l *linter) spec(t *text, spec *rspec.Spec) {
	r := renderer{config: t}
	add := func(level, pointer, format string, args ...any) {
		l.add(level, t.problem(r.offset(pointer), format, args...))
	}
	if spec.Root == nil || !spec.Root.Readonly {
		add("error", "/root", "root.readonly is not true: Only readonly images are supported")
	}
	if spec.Root == nil || spec.Root.Path != "rootfs" {
		add("warning", "/root", "root.path is not rootfs")
	}
	if spec.Process != nil && spec.Process.Terminal {
		add("error", "/process/terminal", "process.terminal is not false: a service has no terminal")
	}
	if _, ok := jsonPlaces(t.out)["/linux/selinuxProcessLabel"]; ok {
		add("error", "/linux/selinuxProcessLabel", "linux.selinuxProcessLabel was never in the specification: use process.selinuxLabel")
	}
	for i, m := range spec.Mounts {
		at := fmt.Sprintf("/mounts/%d", i)
		if m.Type == "rbind" {
			add("error", at, "mount type rbind: use type bind with the option rbind")
		}
		off := r.offset(at + "/source")
		for dir, name := range map[string]string{"/var/lib": "STATE_DIRECTORY", "/run": "RUN_DIRECTORY"} {
			if _, _, fromValue := t.at(off + 1); within(path.Clean(m.Source), dir) && fromValue == "" {
				add("warning", at+"/source", "mount source %s: use $%s instead of %s", m.Source, name, dir)
			}
		}
	}
}

func (l *linter) service() {
	src := string(l.e.ServiceTemplate)
	if l.e.ServiceTemplate == nil || l.m.NoContainerService {
		return
	}
	var probs Problems
	t := substitute(serviceFile, l.e.ServiceTemplate, l.values, &probs)
	if t != nil {
		settings := parseUnit(t, &probs)
		for key, name := range map[string]string{"ExecStart": "EXEC_START", "ExecStop": "EXEC_STOP", "WorkingDirectory": "DESTDIR"} {
			has := slices.ContainsFunc(settings, func(s setting) bool { return s.key == key })
			uses := strings.Contains(src, "$"+name) || strings.Contains(src, "${"+name+"}")
			switch {
			case !has:
				l.add("warning", Problem{File: serviceFile, Text: key + "= is missing"})
			case !uses:
				l.add("warning", Problem{File: serviceFile, Text: fmt.Sprintf("does not use $%s for %s=", name, key)})
			}
		}
	}
	l.problems(probs.err())
}

func (l *linter) tmpfiles() {
	if l.e.Tmpfiles == nil {
		return
	}
	var probs Problems
	if t := substitute(tmpfilesFile, l.e.Tmpfiles, l.values, &probs); t != nil {
		parseTmpfiles(t, &probs)
	}
	l.problems(probs.err())
}
