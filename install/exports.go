// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen"
)

// Limits of what an image may ask to be read into memory.
const (
	templateMax = 1 << 20
	hostFileMax = 256 << 20
	hostFSMax   = 1 << 30
)

const hostFS = "/exports/hostfs"

// templateFiles are the files of /exports, and where their contents belong.
func templateFiles(e *unitgen.Exports) map[string]*[]byte {
	return map[string]*[]byte{
		"config.json":          &e.ConfigJSON,
		"config.json.template": &e.ConfigTemplate,
		"service.template":     &e.ServiceTemplate,
		"tmpfiles.template":    &e.Tmpfiles,
		"manifest.json":        &e.Manifest,
	}
}

// readExports reads the files below /exports from an image that need not be
// mounted.
func readExports(t *tree.Tree) (unitgen.Exports, error) {
	var e unitgen.Exports
	for name, to := range templateFiles(&e) {
		data, err := t.ReadFile("/exports/"+name, templateMax)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return e, hint.New(fmt.Errorf("read the image's templates: %w", err), "the image is not a valid system container; nothing was installed")
		}
		*to = append([]byte{}, data...) // an empty file is not an absent one
	}
	e.Lookup = func(path string) (unitgen.Entry, bool) {
		n := t.Lookup(path)
		if n == nil {
			return unitgen.Entry{}, false
		}
		entry := unitgen.Entry{Mode: fileMode(n.Mode)}
		if n.IsSymlink() {
			entry.Target = n.Data
		}
		return entry, true
	}
	e.ReadFile = func(path string) ([]byte, error) { return t.ReadFile(path, templateMax) }
	var err error
	e.HostFS, err = readHostFS(t)
	return e, err
}

func readHostFS(t *tree.Tree) ([]unitgen.HostFile, error) {
	var list []unitgen.HostFile
	var total uint64
	err := t.Walk(hostFS, func(path string, n *tree.Node) error {
		rel := strings.TrimPrefix(path, hostFS)
		if rel == "" {
			return nil
		}
		f := unitgen.HostFile{
			Path: rel, Mode: fileMode(n.Mode), UID: int(n.UID), GID: int(n.GID),
			ModTime: time.Unix(n.Sec, int64(n.Nsec)).UTC(),
		}
		switch {
		case n.IsSymlink():
			f.Target = n.Data
		case n.IsRegular():
			if total += n.Size; total > hostFSMax {
				return fmt.Errorf("%s is larger than %d MiB", hostFS, hostFSMax>>20)
			}
			var err error
			if f.Content, err = t.ReadFile(path, hostFileMax); err != nil {
				return err
			}
		case !n.IsDir():
			return nil // devices and sockets are not for the host
		}
		list = append(list, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the image's host files: %w", err)
	}
	return list, nil
}

// ReadExports reads an image's templates from a directory that is its /exports.
func ReadExports(dir fs.FS) (*unitgen.Exports, error) {
	e := &unitgen.Exports{}
	for name, to := range templateFiles(e) {
		data, err := fs.ReadFile(dir, name)
		if err == nil {
			*to = append([]byte{}, data...)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read templates: %w", err)
		}
	}
	err := fs.WalkDir(dir, "hostfs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "hostfs" {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := unitgen.HostFile{Path: strings.TrimPrefix(path, "hostfs"), Mode: info.Mode()}
		if d.Type().IsRegular() {
			if f.Content, err = fs.ReadFile(dir, path); err != nil {
				return err
			}
		}
		e.HostFS = append(e.HostFS, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read templates: %w", err)
	}
	if e.Empty() {
		return nil, hint.New(errors.New("there are no templates"), "name a directory that has or is the image's /exports")
	}
	return e, nil
}

// fileMode turns st_mode into Go's terms.
func fileMode(m uint32) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if m&bit != 0 {
			mode |= flag
		}
	}
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	}
	return mode
}

// facts are what rendering depends on that only the host knows.
func (a *Agent) facts(ctx context.Context) (unitgen.HostFacts, error) {
	caps, err := boundingSet()
	if err != nil {
		return unitgen.HostFacts{}, err
	}
	version, err := a.sd.Version(ctx)
	if err != nil {
		return unitgen.HostFacts{}, err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return unitgen.HostFacts{
		Capabilities: caps,
		UID:          os.Geteuid(),
		GID:          os.Getegid(),
		UUID:         fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:]),
		Launcher:     paths.Launcher,
		Agent:        "/usr/bin/atomic",
		Starter:      a.starter(),
		Exists: func(path string) bool {
			_, err := os.Lstat(a.host.Path(path))
			return err == nil
		},
		IsDir: func(path string) (dir, exists bool) {
			st, err := os.Stat(a.host.Path(path))
			return err == nil && st.IsDir(), err == nil
		},
		Readlink: func(path string) (target string, ok bool) {
			target, err := os.Readlink(a.host.Path(path))
			return target, err == nil
		},
		HasUser:  func(uid uint32) bool { return a.known("passwd", uid) },
		HasGroup: func(gid uint32) bool { return a.known("group", gid) },
		SELinux:  present("/sys/fs/selinux/enforce"),
		AppArmor: strings.HasPrefix(content("/sys/module/apparmor/parameters/enabled"), "Y"),
		Systemd:  version,
		Machined: a.conf.Machined.Register,
		Verity:   string(a.conf.Store.Verity),

		NoUserNS: noUserNS(), CanIDMap: a.canIDMap, UnprivilegedPort: unprivilegedPort(),

		TPMDevice: tpmDevice(a.conf.TPM),
	}, nil
}

// known reports whether the host knows an ID, by any of its databases.
func (a *Agent) known(database string, id uint32) bool {
	number := strconv.FormatUint(uint64(id), 10)
	if getent, err := exec.LookPath("getent"); err == nil && a.sd.Live() {
		return exec.Command(getent, database, number).Run() == nil //nolint:noctx // it reads local files
	}
	for line := range strings.Lines(content(a.host.Path("/etc/" + database))) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == number {
			return true
		}
	}
	return false
}

// tpmDevice is the device node that starts are measured into, if any.
func tpmDevice(c conf.TPM) string {
	switch {
	case c.Measure == conf.Off || strings.HasPrefix(c.Device, "unix:"):
		return ""
	case c.Device == "":
		return "/dev/tpmrm0"
	}
	return c.Device
}

func present(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func content(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// boundingSet returns the capabilities that a process of this host can have.
func boundingSet() ([]string, error) {
	for line := range strings.Lines(content("/proc/self/status")) {
		hex, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read capability bounding set: %w", err)
		}
		var names []string
		for _, c := range capability.ListKnown() {
			if bits&(1<<uint(c)) != 0 {
				names = append(names, "CAP_"+strings.ToUpper(c.String()))
			}
		}
		return names, nil
	}
	return nil, errors.New("read capability bounding set: /proc/self/status has none")
}
