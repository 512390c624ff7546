// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// UnitFile is a file that makes up a container's service.
type UnitFile struct {
	Path    string `json:"path"`
	Content string `json:"content"`
	// Origin says where it comes from.
	Origin string `json:"origin"`
}

// UnitFiles returns the files of a container's service as they are on the
// host: the unit, its drop-ins, whoever they are from, the mount unit of the
// root file system and the tmpfiles.d file.
func (a *Agent) UnitFiles(name string) ([]UnitFile, error) {
	d, err := a.deployed(name)
	if err != nil {
		return nil, err
	}
	ours := unitPaths(d.rec)
	slices.SortFunc(ours, func(x, y string) int { return catOrder(name, x) - catOrder(name, y) })
	var list []UnitFile
	for _, p := range ours {
		if catOrder(name, p) == 1 {
			// All drop-ins together, in systemd's order.
			dropIns, err := a.dropIns(name, d)
			if err != nil {
				return nil, err
			}
			list = append(list, dropIns...)
			continue
		}
		data, err := os.ReadFile(a.host.Path(p))
		if err != nil {
			return nil, hint.Root(err)
		}
		list = append(list, UnitFile{p, string(data), a.origin(d, p, data)})
	}
	return list, nil
}

// catOrder sorts the unit first, its drop-in next, then the rest.
func catOrder(name, path string) int {
	switch {
	case filepath.Base(path) == name+".service":
		return 0
	case filepath.Base(filepath.Dir(path)) == name+".service.d":
		return 1
	case filepath.Ext(path) == ".mount":
		return 2
	}
	return 3
}

func (a *Agent) origin(d *deployment, path string, content []byte) string {
	origin := "written by atomic"
	switch catOrder(d.name, path) {
	case 0:
		origin = "rendered from the template of " + d.rec.Image
	case 3:
		if filepath.Dir(path) != (paths.Host{}).Units() {
			origin = "what " + d.rec.Image + " needs at boot"
		}
	}
	if d.sumOf(path) != fileSum(content) {
		origin += ", modified since"
	}
	return origin
}

// dropIns are those of the service itself; of files with one name the first
// directory's counts.
func (a *Agent) dropIns(name string, d *deployment) ([]UnitFile, error) {
	ours := filepath.Join(paths.Host{}.Units(), name+".service.d")
	found := map[string]string{}
	for _, dir := range []string{"/etc/systemd/system.control", "/run/systemd/system.control", "/etc/systemd/system", paths.Host{}.Units(), "/run/systemd/system"} {
		dir = filepath.Join(dir, name+".service.d")
		entries, err := os.ReadDir(a.host.Path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if _, ok := found[e.Name()]; !ok && strings.HasSuffix(e.Name(), ".conf") {
				found[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	var list []UnitFile
	for _, f := range slices.Sorted(maps.Keys(found)) {
		data, err := os.ReadFile(a.host.Path(found[f]))
		if err != nil {
			return nil, hint.Root(err)
		}
		origin := "written by the administrator"
		if filepath.Dir(found[f]) == ours && d.sumOf(found[f]) != "" {
			origin = a.origin(d, found[f], data)
		}
		list = append(list, UnitFile{found[f], string(data), origin})
	}
	return list, nil
}
