// SPDX-License-Identifier: Apache-2.0

package install

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/atomicfile"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// deployment is one generation of a container on disk. Its directory holds,
// besides config.json and the record, a copy of every file it has on the
// host: whatever happens to those, they can be told from others and put back.
type deployment struct {
	host paths.Host
	name string
	gen  int
	rec  *record.Record
}

// entry is one file of a deployment on the host.
type entry struct {
	path string // absolute, without the root
	kind string // of package intent
	sum  string
	unit bool // systemd's, as opposed to a host file of the image
}

func (d *deployment) dir() string { return d.host.Deployment(d.name, d.gen) }

// copyOf returns where the deployment keeps its copy of a host path.
func (d *deployment) copyOf(path string) string {
	if units := (paths.Host{}).Units(); isBelow(path, units) {
		return filepath.Join(d.dir(), strings.TrimPrefix(path, units))
	}
	if path == tmpfilesPath(d.name) {
		return filepath.Join(d.dir(), "tmpfiles-"+d.name+".conf")
	}
	return filepath.Join(d.dir(), "hostfs", path)
}

func tmpfilesPath(name string) string {
	return filepath.Join(paths.Host{}.Tmpfiles(), name+".conf")
}

// sumOf returns the sum that the record has for a host path, or "".
func (d *deployment) sumOf(path string) string {
	for _, f := range d.rec.Atomic.Units {
		if f.Path == path {
			return f.SHA256
		}
	}
	return d.rec.InstalledFilesChecksum[path]
}

// entries lists the deployment's files on the host, parents before children; no
// deployment has none.
func (d *deployment) entries() ([]entry, error) {
	if d == nil {
		return nil, nil
	}
	var list []entry
	add := func(path, sum string, unit bool) error {
		kind, _, err := probe(d.copyOf(path))
		if err != nil {
			return fmt.Errorf("read deployment %s.%d: %w", d.name, d.gen, err)
		}
		if kind == "" {
			return fmt.Errorf("read deployment %s.%d: the copy of %s is gone", d.name, d.gen, path)
		}
		list = append(list, entry{path, kind, sum, unit})
		return nil
	}
	for _, p := range d.rec.InstalledFiles {
		if err := add(p, d.rec.InstalledFilesChecksum[p], false); err != nil {
			return nil, err
		}
	}
	for _, f := range d.rec.Atomic.Units {
		if err := add(f.Path, f.SHA256, true); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// probe reads what is at a path: its kind and its sum as steps have them, both
// empty if there is nothing.
func probe(path string) (kind, sum string, err error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	switch st.Mode().Type() {
	case fs.ModeDir:
		return intent.Dir, record.DirChecksum, nil
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		return intent.Symlink, linkSum(target), err
	case 0:
		data, err := os.ReadFile(path)
		return intent.File, fileSum(data), err
	}
	return "other", "other", nil
}

func fileSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// linkSum is the sum of a symlink; it differs from that of a file with the
// target as its content.
func linkSum(target string) string { return fileSum([]byte("symlink\x00" + target)) }

// current returns the current deployment of a container, or nil if it is not
// installed.
func (a *Agent) current(name string) (*deployment, error) {
	gen, err := a.currentGeneration(name)
	if err != nil || gen == intent.None {
		return nil, err
	}
	return a.load(name, gen)
}

// deployed is current for those who need one: its error is ErrNotInstalled if
// there is none.
func (a *Agent) deployed(name string) (*deployment, error) {
	if record.CheckName(name) != nil {
		return nil, notInstalled(name)
	}
	d, err := a.current(name)
	if err != nil {
		return nil, hint.Root(err)
	}
	if d == nil {
		return nil, notInstalled(name)
	}
	return d, nil
}

func (a *Agent) currentGeneration(name string) (int, error) {
	target, err := os.Readlink(a.host.Current(name))
	if errors.Is(err, fs.ErrNotExist) {
		return intent.None, nil
	}
	if errors.Is(err, syscall.EINVAL) {
		if other := name[:max(strings.LastIndexByte(name, '.'), 0)]; other != "" {
			return intent.None, hint.New(fmt.Errorf("%s is a deployment of the container %s", name, other), "choose another name with --name; nothing was installed")
		}
		return intent.None, fmt.Errorf("%s is not a symlink", a.host.Current(name))
	}
	if err != nil {
		return intent.None, err
	}
	n, ok := strings.CutPrefix(filepath.Base(target), name+".")
	gen, err := strconv.Atoi(n)
	if !ok || err != nil || gen < 0 {
		return intent.None, fmt.Errorf("%s leads to %q, which is no deployment of it", a.host.Current(name), target)
	}
	return gen, nil
}

func (a *Agent) load(name string, gen int) (*deployment, error) {
	d := &deployment{host: a.host, name: name, gen: gen}
	file := filepath.Join(d.dir(), "info")
	var rec *record.Record
	err := readSmall(file, recordMax, func(data []byte) (err error) {
		if rec, err = record.Parse(data); err != nil {
			err = fmt.Errorf("%s: %w", file, err)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read deployment %s.%d: %w", name, gen, err)
	}
	if rec.Atomic.Name != name || rec.Atomic.Generation != gen {
		return nil, fmt.Errorf("read deployment %s.%d: its record is that of %s.%d", name, gen, rec.Atomic.Name, rec.Atomic.Generation)
	}
	d.rec = rec
	return d, nil
}

// place is a directory for a deployment, which may be unfinished.
type place struct {
	name string
	gen  int
}

// placeOf takes the name of a directory apart.
func placeOf(base string) (p place, ok bool) {
	dot := strings.LastIndexByte(base, '.')
	if dot <= 0 {
		return p, false
	}
	gen, err := strconv.Atoi(base[dot+1:])
	p = place{base[:dot], gen}
	return p, err == nil && gen >= 0 && base == fmt.Sprintf("%s.%d", p.name, gen)
}

// places returns the directories of all containers' deployments.
func (a *Agent) places() ([]place, error) {
	list, err := os.ReadDir(a.host.Containers())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []place
	for _, e := range list {
		if p, ok := placeOf(e.Name()); ok && e.IsDir() {
			found = append(found, p)
		}
	}
	return found, nil
}

// generations returns the generations of a container that have a directory,
// ascending.
func (a *Agent) generations(name string) ([]int, error) {
	all, err := a.places()
	var gens []int
	for _, p := range all {
		if p.name == name {
			gens = append(gens, p.gen)
		}
	}
	slices.Sort(gens)
	return gens, err
}

// leftover reports whether a generation's directory is no deployment: begun and
// never completed, or left from a removal. There must be no intent any more.
func (a *Agent) leftover(name string, gen int) (bool, error) {
	now, err := a.currentGeneration(name)
	if err != nil || now == gen {
		return false, err
	}
	if now == intent.None {
		return true, nil
	}
	recorded, err := a.recorded(name, gen)
	return !recorded, err
}

// recorded reports whether a generation has its record, which is written last
// and removed first.
func (a *Agent) recorded(name string, gen int) (bool, error) {
	_, err := os.Lstat(filepath.Join(a.host.Deployment(name, gen), "info"))
	if gone(err) {
		return false, nil
	}
	return err == nil, err
}

// nextGeneration returns a generation whose directory is not taken.
func (a *Agent) nextGeneration(name string) (int, error) {
	gens, err := a.generations(name)
	if err != nil {
		return 0, err
	}
	next := 0
	if len(gens) > 0 {
		next = gens[len(gens)-1] + 1
	}
	for {
		_, err := os.Lstat(a.host.Deployment(name, next))
		if errors.Is(err, fs.ErrNotExist) {
			return next, nil
		}
		if err != nil {
			return 0, err
		}
		next++ // a container of that name
	}
}

// setCurrent makes a generation the container's current one.
func (a *Agent) setCurrent(name string, gen int) error {
	target := paths.Host{}.Deployment(name, gen)
	if err := atomicfile.ReplaceLink(target, a.host.Current(name)); err != nil {
		return fmt.Errorf("make deployment %s.%d current: %w", name, gen, err)
	}
	return nil
}
