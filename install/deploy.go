// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moby/sys/mountinfo"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/internal/atomicfile"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// place looks at the host, decides which host files and directories the new
// deployment has there and plans the steps. It is called with the host lock.
func (a *Agent) place(p *prepared, from *deployment) ([]intent.Step, error) {
	if err := a.checkIDs(p.d); err != nil {
		return nil, err
	}
	if err := a.placeHostFiles(p, from); err != nil {
		return nil, err
	}
	owned, err := a.ownedDirectories()
	if err != nil {
		return nil, err
	}
	held, err := a.heldDirectories(p.d.name)
	if err != nil {
		return nil, err
	}
	p.d.rec.Atomic.Directories = union(held, a.directories(p, owned))
	if p.d.rec.Atomic.Made, err = a.willMake(p); err != nil {
		return nil, err
	}
	if err := a.writeCopies(p); err != nil {
		return nil, err
	}
	return a.steps(from, p.d)
}

// placeHostFiles enters the image's host files into the record, except those
// that are on the host and are not the container's.
func (a *Agent) placeHostFiles(p *prepared, from *deployment) error {
	rec := p.d.rec
	for _, f := range p.out.HostFiles {
		kind, _, err := probe(a.host.Path(f.Path))
		if err != nil {
			return err
		}
		mine := from != nil && slices.Contains(from.rec.InstalledFiles, f.Path)
		if kind != "" && !mine {
			if !f.Mode.IsDir() {
				a.say("File %s already exists", f.Path)
			}
			continue
		}
		sum := fileSum(f.Content)
		switch {
		case f.Mode.IsDir():
			sum = record.DirChecksum
		case f.Mode&fs.ModeSymlink != 0:
			sum = linkSum(f.Target)
		}
		rec.InstalledFiles = append(rec.InstalledFiles, f.Path)
		rec.InstalledFilesChecksum[f.Path] = sum
		p.files[filepath.Join("hostfs", f.Path)] = f
	}
	return nil
}

// directories lists the directories that the deployment's files need and that
// are not there, or that are there because of another container.
func (a *Agent) directories(p *prepared, owned map[string]bool) []string {
	need := map[string]bool{}
	add := func(dir string) {
		for ; dir != "/" && !need[dir]; dir = filepath.Dir(dir) {
			if _, err := os.Lstat(a.host.Path(dir)); err == nil && !owned[dir] {
				return // and so are its parents
			}
			need[dir] = true
		}
	}
	for _, f := range p.d.rec.InstalledFiles {
		add(filepath.Dir(f))
	}
	for _, u := range p.d.rec.Atomic.Units {
		add(filepath.Dir(u.Path))
	}
	for _, l := range simpleLines(p.out.Tmpfiles) {
		if l.dir {
			add(l.path)
		} else {
			add(filepath.Dir(l.path))
		}
	}
	for _, f := range p.d.rec.InstalledFiles {
		delete(need, f) // an entry of its own
	}
	return slices.Sorted(maps.Keys(need)) // parents come first
}

// heldDirectories are the directories that any deployment of a container
// brought: an update may need fewer, but somebody has to remove them.
func (a *Agent) heldDirectories(name string) ([]string, error) {
	gens, err := a.generations(name)
	if err != nil {
		return nil, err
	}
	var held []string
	for _, gen := range gens {
		if d, err := a.load(name, gen); err == nil {
			held = union(held, d.rec.Atomic.Directories)
		}
	}
	return held, nil
}

// union joins lists of directories; parents come first.
func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// ownedDirectories are the directories that installed containers brought.
func (a *Agent) ownedDirectories() (map[string]bool, error) {
	names, err := a.names()
	if err != nil {
		return nil, err
	}
	owned := map[string]bool{}
	for _, name := range names {
		held, err := a.heldDirectories(name)
		if err != nil {
			return nil, err
		}
		for _, dir := range held {
			owned[dir] = true
		}
	}
	return owned, nil
}

// names returns the names of all containers, sorted.
func (a *Agent) names() ([]string, error) {
	list, err := os.ReadDir(a.host.Containers())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var names []string
	for _, e := range list {
		if e.Type() == fs.ModeSymlink && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// writeCopies makes the deployment's directory, with the record still missing.
// An unfinished directory of that name, from before an intent was written, is
// replaced.
func (a *Agent) writeCopies(p *prepared) error {
	dir := p.d.dir()
	if err := a.removeDeployment(p.d.name, p.d.gen); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o711); err != nil {
		if errors.Is(err, fs.ErrExist) { // since the generation was chosen
			err = hint.New(fmt.Errorf("%s.%d is a container", p.d.name, p.d.gen), "run the command again: it takes another number")
		}
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // others may pass, as a user namespace's root must
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		if err := writeCopy(filepath.Join(dir, name), p.files[name]); err != nil {
			return fmt.Errorf("write deployment: %w", err)
		}
	}
	return nil
}

func writeCopy(path string, f unitgen.HostFile) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch {
	case f.Mode.IsDir():
		return os.MkdirAll(path, 0o755)
	case f.Mode&fs.ModeSymlink != 0:
		return os.Symlink(f.Target, path)
	}
	if err := os.WriteFile(path, f.Content, 0o600); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, f.UID, f.GID); err != nil {
			return err
		}
	}
	return os.Chmod(path, f.Mode&^fs.ModeType)
}

// finish makes the deployment's directory durable: everything in it first,
// then the record.
func (a *Agent) finish(p *prepared) error {
	p.d.rec.Created = time.Now().Unix()
	data, err := p.d.rec.Marshal()
	if err != nil {
		return err
	}
	f, err := os.Open(p.d.dir())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("write deployment: sync: %w", err)
	}
	if err := atomicfile.Replace(filepath.Join(p.d.dir(), "info"), data, atomicfile.Own(0o600)); err != nil {
		return fmt.Errorf("write deployment: %w", err)
	}
	return atomicfile.SyncDir(a.host.Containers())
}

// publish makes the image permanent, under its name and for this deployment.
func (p *prepared) publish() error {
	rec := p.d.rec
	ref := store.RefInfo{Image: rec.Atomic.Rootfs.Image, Source: rec.Image, ManifestDigest: rec.Atomic.ManifestDigest}
	if err := p.txn.SetRef(p.d.name, p.d.gen, ref); err != nil {
		return err
	}
	if err := tag(p.txn, p.pulled, p.img); err != nil {
		return err
	}
	return p.txn.Commit()
}

// removeDeployment removes a generation's directory, whatever state it is in.
func (a *Agent) removeDeployment(name string, gen int) error {
	dir := a.host.Deployment(name, gen)
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return nil
	}
	rootfs := filepath.Join(dir, "rootfs")
	if mounted, err := mountinfo.Mounted(rootfs); err == nil && mounted {
		if err := mount.Unmount(rootfs); err != nil {
			return fmt.Errorf("unmount %s: %w", rootfs, err)
		}
	}
	// The record goes first: without it this is no deployment any more.
	if err := atomicfile.Remove(filepath.Join(dir, "info")); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return atomicfile.SyncDir(a.host.Containers())
}

// dropDeployment removes a generation: its directory and its hold on the image.
func (a *Agent) dropDeployment(ctx context.Context, name string, gen int) error {
	if err := a.removeDeployment(name, gen); err != nil {
		return fmt.Errorf("remove deployment %s.%d: %w", name, gen, err)
	}
	st, err := a.openStore()
	if err != nil {
		return err
	}
	return st.RemoveRef(ctx, name, gen)
}
