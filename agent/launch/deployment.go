// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// ErrNotInstalled is returned for a container that has no current deployment.
var ErrNotInstalled = errors.New("not installed")

// maxFile bounds what is read of a record or config.json.
const maxFile = 16 << 20

// deployment is an opened generation of a container.
type deployment struct {
	name   string
	dir    string // the generation's real directory, NAME.N
	store  string // the directory of the store
	root   string // the root file system of a bundle; empty for what is installed
	rec    *record.Record
	config []byte // config.json, the bytes that are executed
	plan   []byte // the compiled plan, if there is one
	digest string // SHA-256 of record and config, to compare both processes' views
}

// rootfs is where the deployment's root file system is mounted.
func (d *deployment) rootfs() string {
	if d.root != "" {
		return d.root
	}
	return filepath.Join(d.dir, "rootfs")
}

// open reads the current deployment of a container. Both files come from one
// directory that is opened once, so an update in between cannot mix two
// generations.
func open(host paths.Host, name string) (*deployment, error) {
	if err := record.CheckName(name); err != nil {
		return nil, err
	}
	dir, err := directory(host, name)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open deployment: %w", err)
	}
	defer func() { _ = root.Close() }()
	d := &deployment{name: name, dir: dir, store: host.Store()}
	info, err := readAll(root, "info")
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	if d.rec, err = record.Parse(info); err != nil {
		return nil, fmt.Errorf("deployment %q: %w", filepath.Base(dir), err)
	}
	if d.config, err = readAll(root, "config.json"); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if d.rec.Atomic.Start.Engine == "plan" {
		// Without it the container is started by the other engine.
		if d.plan, err = readAll(root, "plan"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read plan: %w", err)
		}
	}
	h := sha256.New()
	h.Write(info)
	h.Write(d.config)
	d.digest = hex.EncodeToString(h.Sum(nil))
	return d, d.check()
}

// directory finds the current deployment of a container: of one that is
// installed or, if there is none, of one that is run without that.
func directory(host paths.Host, name string) (string, error) {
	target, err := os.Readlink(host.Current(name))
	if errors.Is(err, fs.ErrNotExist) {
		if st, err := os.Lstat(host.Once(name)); err == nil && st.IsDir() {
			return host.Once(name), nil
		}
		return "", hint.New(fmt.Errorf("container %q: %w", name, ErrNotInstalled), "`atomic containers list` shows what is installed")
	}
	if err != nil {
		return "", fmt.Errorf("find deployment: %w", err)
	}
	generation := strings.TrimPrefix(filepath.Base(target), name+".")
	if n, err := strconv.Atoi(generation); err != nil || n < 0 {
		return "", fmt.Errorf("find deployment: link %q names no generation of %q", target, name)
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(host.Containers(), filepath.Base(target)))
	if err != nil {
		return "", fmt.Errorf("find deployment: %w", err)
	}
	return dir, nil
}

func readAll(root *os.Root, name string) ([]byte, error) {
	fi, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a regular file of reasonable size", name)
	}
	return root.ReadFile(name)
}

// reinstall is the way out of what should not be.
const reinstall = "`atomic install --system` the image again; nothing may edit a deployment in place"

// check refuses a deployment that is not what install recorded.
func (d *deployment) check() error {
	a := &d.rec.Atomic
	switch sum := sha256.Sum256(d.config); {
	case a.Name != d.name:
		return hint.New(fmt.Errorf("record in %q is that of container %q", d.dir, a.Name), reinstall)
	case a.ConfigSHA256 != hex.EncodeToString(sum[:]):
		return hint.New(fmt.Errorf("config.json of %q is not the one that was installed", d.name), reinstall)
	case !d.rec.HasContainerService:
		return fmt.Errorf("container %q has nothing to start: its image only installs files", d.name)
	}
	return nil
}

// checkMounted refuses an unmounted root file system: an empty directory in
// its place would start nothing, or worse, something else. It is mounted for
// longer than one start; where every start is to verify it, this does.
func (d *deployment) checkMounted() error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.rootfs(), &st); err != nil {
		return fmt.Errorf("examine root file system: %w", &fs.PathError{Op: "statfs", Path: d.rootfs(), Err: err})
	}
	if st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return hint.New(fmt.Errorf("root file system of %q is not mounted", d.name),
			fmt.Sprintf("systemctl start %q", d.rec.Atomic.Start.MountUnit))
	}
	if r := d.rec.Atomic.Rootfs; r.Verify == "start" {
		err := mount.Verify(mount.Options{StoreDir: d.store, Image: r.Image, Verity: r.Verity})
		if err != nil {
			return fmt.Errorf("verify root file system of %q: %w", d.name, err)
		}
	}
	return nil
}
