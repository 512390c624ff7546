// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/internal/hint"
)

// Finding is something about a container that is not as it was installed.
type Finding struct {
	Container string `json:"container"`
	Path      string `json:"path"`
	Text      string `json:"text"`
	// Modified says that it is a host file of the image, which administrators
	// may change; everything else is damage.
	Modified bool `json:"modified"`
}

// Verify compares a container, or all of them if name is empty, with what was
// installed. It changes nothing and reads no content of root file systems:
// checking the store does that.
func (a *Agent) Verify(ctx context.Context, name string) ([]Finding, error) {
	names := []string{name}
	if name == "" {
		var err error
		if names, err = a.names(); err != nil {
			return nil, hint.Root(err)
		}
	} else if !a.Installed(name) {
		return nil, notInstalled(name)
	}
	list := []Finding{}
	for _, n := range names {
		found, err := a.verify(ctx, n)
		if err != nil {
			return nil, hint.Root(err)
		}
		list = append(list, found...)
	}
	if name == "" {
		strays, err := a.strays(names)
		if err != nil {
			return nil, hint.Root(err)
		}
		list = append(list, strays...)
	}
	return list, nil
}

func (a *Agent) verify(ctx context.Context, name string) ([]Finding, error) {
	var list []Finding
	add := func(path, format string, args ...any) {
		list = append(list, Finding{Container: name, Path: path, Text: fmt.Sprintf(format, args...)})
	}
	if in, err := intent.Read(a.host.Intents(), name); err != nil {
		add(a.host.Intents(), "%v", err)
	} else if in != nil {
		add(a.host.Intents(), "an interrupted %s; the next command about the container settles it", in.Verb)
	}
	d, err := a.current(name)
	if err != nil || d == nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if err == nil {
			err = errors.New("removed meanwhile")
		}
		add(a.host.Current(name), "%v", err)
		return list, nil
	}
	gens, err := a.generations(name)
	if err != nil {
		return nil, err
	}
	for _, gen := range gens {
		if gen != d.gen && a.begun(place{name, gen}) {
			continue
		}
		g, err := a.load(name, gen)
		if err != nil {
			add(a.host.Deployment(name, gen), "%v", err)
			continue
		}
		a.verifyDeployment(ctx, g, add)
	}
	entries, err := d.entries()
	if err != nil {
		return list, nil //nolint:nilerr // said by verifyDeployment
	}
	for _, e := range entries {
		kind, sum, err := probe(a.host.Path(e.path))
		switch {
		case err != nil:
			return nil, err
		case kind == e.kind && sum == e.sum:
		case kind == "":
			list = append(list, Finding{name, e.path, "is missing", !e.unit})
		default:
			list = append(list, Finding{name, e.path, "was modified", !e.unit})
		}
	}
	return list, nil
}

// verifyDeployment checks what a generation holds for itself.
func (a *Agent) verifyDeployment(ctx context.Context, d *deployment, add func(path, format string, args ...any)) {
	file := filepath.Join(d.dir(), "config.json")
	if _, sum, err := probe(file); err != nil || sum != d.rec.Atomic.ConfigSHA256 {
		add(file, "is not the one that was installed")
	}
	for _, p := range append(slices.Clone(d.rec.InstalledFiles), unitPaths(d.rec)...) {
		if _, sum, err := probe(d.copyOf(p)); err != nil || sum != d.sumOf(p) {
			add(d.copyOf(p), "is not the copy of %s that was installed", p)
		}
	}
	st, err := a.openStore()
	if err == nil {
		_, err = st.ReadTree(ctx, d.rec.Atomic.Rootfs.Image)
	}
	if err != nil {
		add(d.dir(), "root file system: %v", err)
	}
}

func unitPaths(rec *record.Record) []string {
	list := make([]string, len(rec.Atomic.Units))
	for i, u := range rec.Atomic.Units {
		list[i] = u.Path
	}
	return list
}

// begun reports whether a deployment has got no further than to its directory:
// a command is at it, or was killed and the next one removes it.
func (a *Agent) begun(p place) bool {
	if recorded, err := a.recorded(p.name, p.gen); err != nil || recorded {
		return false
	}
	st, err := a.openStore()
	if err != nil {
		return false
	}
	refs, err := st.Refs()
	return err == nil && !slices.ContainsFunc(refs, func(r store.Ref) bool { return r.Name == p.name && r.Generation == p.gen })
}

// strays finds directories of deployments that belong to no container, and
// interrupted changes of containers that are not installed.
func (a *Agent) strays(names []string) ([]Finding, error) {
	var list []Finding
	intents, err := intent.List(a.host.Intents())
	if err != nil {
		return nil, err
	}
	for _, n := range intents {
		if !slices.Contains(names, n) {
			list = append(list, Finding{Container: n, Path: a.host.Intents(), Text: "an interrupted change; the next command settles it"})
		}
	}
	entries, err := os.ReadDir(a.host.Containers())
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		base := e.Name()
		stem := base[:len(base)-len(filepath.Ext(base))]
		if !e.IsDir() || base[0] == '.' || slices.Contains(names, stem) || slices.Contains(intents, stem) {
			continue
		}
		if p, ok := placeOf(base); ok && a.begun(p) {
			continue
		}
		list = append(list, Finding{Container: stem, Path: filepath.Join(a.host.Containers(), base), Text: "belongs to no container"})
	}
	return list, nil
}
