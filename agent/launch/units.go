// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/tpm"
)

// unitPath is systemd's search path for system units, first match wins; see
// systemd.unit(5).
var unitPath = []string{
	"/etc/systemd/system.control", "/run/systemd/system.control",
	"/run/systemd/transient", "/run/systemd/generator.early",
	"/etc/systemd/system", "/etc/systemd/system.attached",
	"/run/systemd/system", "/run/systemd/system.attached",
	"/run/systemd/generator",
	"/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
	"/run/systemd/generator.late",
}

// unitFiles returns the fragment and the drop-ins of a service in the order in
// which systemd reads them. The files are read, not the manager asked, because
// a start before D-Bus must be measured as well.
func unitFiles(host paths.Host, unit string) ([]tpm.StartFile, error) {
	var files []tpm.StartFile
	for _, dir := range unitPath {
		file := filepath.Join(dir, unit)
		sum, err := hashFile(host.Path(file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read unit: %w", err)
		}
		files = append(files, tpm.StartFile{Path: file, SHA256: sum})
		break
	}
	dropins, err := dropIns(host, unit)
	if err != nil {
		return nil, fmt.Errorf("read drop-ins: %w", err)
	}
	for _, file := range dropins {
		sum, err := hashFile(host.Path(file))
		if err != nil {
			return nil, fmt.Errorf("read drop-in: %w", err)
		}
		files = append(files, tpm.StartFile{Path: file, SHA256: sum})
	}
	return files, nil
}

// dropIns lists a unit's drop-ins: *.conf of NAME.service.d, of the directories
// of its dashed prefixes and of service.d, in every directory of the search
// path. Of files with the same name the first counts, an empty or masking one
// included; the result is ordered by file name.
func dropIns(host paths.Host, unit string) ([]string, error) {
	found := map[string]string{}
	for _, sub := range dropInDirs(unit) {
		for _, dir := range unitPath {
			entries, err := os.ReadDir(host.Path(filepath.Join(dir, sub)))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if _, ok := found[e.Name()]; !ok && strings.HasSuffix(e.Name(), ".conf") && e.Name()[0] != '.' {
					found[e.Name()] = filepath.Join(dir, sub, e.Name())
				}
			}
		}
	}
	names := make([]string, 0, len(found))
	for name, file := range found {
		if target, err := os.Readlink(host.Path(file)); err == nil && target == "/dev/null" {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = found[name]
	}
	return names, nil
}

// dropInDirs returns the drop-in directories of a unit, most specific first:
// a-b.service.d, a-.service.d, service.d.
func dropInDirs(unit string) []string {
	ext := filepath.Ext(unit)
	stem := strings.TrimSuffix(unit, ext)
	dirs := []string{unit + ".d"}
	for i := strings.LastIndexByte(strings.TrimRight(stem, "-"), '-'); i > 0; i = strings.LastIndexByte(stem[:i], '-') {
		dirs = append(dirs, stem[:i+1]+ext+".d")
	}
	return append(dirs, strings.TrimPrefix(ext, ".")+".d")
}

// hashFile hashes the file a name leads to.
func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
