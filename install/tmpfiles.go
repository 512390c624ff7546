// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atomic-agent/atomic/install/intent"
)

// tmpfilesLine is a line of a tmpfiles.d(5) file that makes something and says
// so without specifiers, escapes or quotes.
type tmpfilesLine struct {
	path string
	// dir says that it makes a directory; kind and sum are what else it makes,
	// as steps have them.
	dir       bool
	kind, sum string
}

func simpleLines(content []byte) []tmpfilesLine {
	var list []tmpfilesLine
	for line := range strings.Lines(string(content)) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.ContainsAny(line, `%"'\`) || !filepath.IsAbs(f[1]) || f[0][0] == '#' {
			continue
		}
		l := tmpfilesLine{path: filepath.Clean(f[1])}
		arg := ""
		if len(f) > 6 {
			// The seventh field is the rest of the line, blanks and all.
			rest := line
			for _, field := range f[:6] {
				rest = rest[strings.Index(rest, field)+len(field):]
			}
			arg = strings.TrimSpace(rest)
		}
		switch kind := f[0][0]; {
		case strings.IndexByte("dDvqQ", kind) >= 0:
			l.dir = true
		case kind == 'f' || kind == 'F':
			l.kind, l.sum = intent.File, fileSum([]byte(arg))
		case kind == 'L' && arg != "":
			l.kind, l.sum = intent.Symlink, linkSum(arg)
		default:
			continue
		}
		list = append(list, l)
	}
	return list
}

// willMake lists the files and symlinks that the deployment's tmpfiles.d file
// makes: those that are not there, and those that an earlier deployment made.
func (a *Agent) willMake(p *prepared) ([]string, error) {
	made, err := a.made(p.d.name)
	if err != nil {
		return nil, err
	}
	for _, l := range simpleLines(p.out.Tmpfiles) {
		if l.dir {
			continue
		}
		kind, _, err := probe(a.host.Path(l.path))
		if err != nil {
			return nil, err
		}
		if kind == "" {
			made = append(made, l.path)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(made))), nil
}

// made lists what any deployment of a container says it made.
func (a *Agent) made(name string) ([]string, error) {
	gens, err := a.generations(name)
	if err != nil {
		return nil, err
	}
	var made []string
	for _, gen := range gens {
		if d, err := a.load(name, gen); err == nil {
			made = append(made, d.rec.Atomic.Made...)
		}
	}
	return made, nil
}

// unmake plans the removal of the files and symlinks that a container's
// tmpfiles.d files made and that nobody changed since: they hold no data.
func (a *Agent) unmake(name string) ([]intent.Step, error) {
	made, err := a.made(name)
	if err != nil {
		return nil, err
	}
	gens, err := a.generations(name)
	if err != nil {
		return nil, err
	}
	var steps []intent.Step
	for _, gen := range gens {
		d := &deployment{host: a.host, name: name, gen: gen}
		content, err := os.ReadFile(d.copyOf(tmpfilesPath(name)))
		if err != nil {
			continue // it has none
		}
		for _, l := range simpleLines(content) {
			if l.dir || !slices.Contains(made, l.path) {
				continue
			}
			kind, sum, err := probe(a.host.Path(l.path))
			if err != nil {
				return nil, err
			}
			step := intent.Step{Path: l.path, Kind: kind, Before: sum, Straight: true}
			if kind == l.kind && sum == l.sum && !slices.Contains(steps, step) {
				steps = append(steps, step)
			}
		}
	}
	return steps, nil
}
