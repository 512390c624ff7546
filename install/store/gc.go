// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/erofs"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// exclusiveWait is how long gc and repair wait for running transactions.
const exclusiveWait = 10 * time.Second

// lockAll takes the exclusive lock or says who is in the way.
func (s *Store) lockAll(ctx context.Context) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, exclusiveWait)
	defer cancel()
	f, err := s.lock(ctx, unix.LOCK_EX)
	if errors.Is(err, ErrBusy) {
		if pids := s.holders(); len(pids) > 0 {
			err = hint.New(err, "wait for process "+strings.Join(pids, ", ")+" to end its work, then run this again")
		}
	}
	return f, err
}

// holders returns the process ids of the running transactions.
func (s *Store) holders() []string {
	var pids []string
	entries, err := os.ReadDir(s.path("staging"))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		parts := strings.Split(e.Name(), ".")
		if len(parts) == 3 && s.stagingInUse(e.Name()) {
			pids = append(pids, parts[1])
		}
	}
	return pids
}

// stagingInUse reports whether a transaction holds the staging directory.
func (s *Store) stagingInUse(name string) bool {
	f, err := os.Open(s.path("staging", name))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// GCResult says what a gc has removed.
type GCResult struct {
	Names, Objects int
	Bytes          int64
}

// GC removes what no tag, ref or mounted image needs. It excludes transactions,
// and mounts need no exclusion: an image is mounted because a ref has it, or it
// is mounted already and thereby kept.
func (s *Store) GC(ctx context.Context) (GCResult, error) { return s.collect(ctx, false) }

// Garbage says what GC would remove.
func (s *Store) Garbage(ctx context.Context) (GCResult, error) { return s.collect(ctx, true) }

func (s *Store) collect(ctx context.Context, dry bool) (GCResult, error) {
	lock, err := s.lockAll(ctx)
	if err != nil {
		return GCResult{}, err
	}
	defer lock.Close()
	if !dry {
		s.sweepStaging()
	}
	k := &keeper{s: s, dry: dry, objects: map[verity.Digest]bool{}, names: map[string]bool{}}
	if err := k.mark(); err != nil {
		return GCResult{}, fmt.Errorf("gc: %w", s.explain(err))
	}
	res, err := k.sweep(ctx)
	if err != nil {
		return res, fmt.Errorf("gc: %w", s.explain(err))
	}
	return res, nil
}

// keeper is the mark phase: everything that must stay.
type keeper struct {
	s       *Store
	dry     bool // sweep counts and removes nothing
	objects map[verity.Digest]bool
	names   map[string]bool // "layers/sha256:…"
}

func (k *keeper) mark() error {
	tags, err := os.ReadDir(k.s.path("tags"))
	if err != nil {
		return err
	}
	for _, f := range tags {
		t, err := k.s.readTag(f.Name())
		if err != nil {
			return err
		}
		if err := k.manifest(t.Manifest); err != nil {
			return err
		}
	}
	refs, err := k.s.Refs()
	if err != nil {
		return err
	}
	for _, r := range refs {
		if r.ManifestDigest != "" {
			if err := k.manifest(r.ManifestDigest); err != nil {
				return err
			}
		}
		if err := k.image(r.Image); err != nil {
			return fmt.Errorf("ref %s.%d: %w", r.Name, r.Generation, err)
		}
	}
	for image := range mountedImages() {
		if _, err := k.s.readLink("images", image); err != nil {
			continue // of another store
		}
		if err := k.image(image); err != nil {
			return fmt.Errorf("mounted image: %w", err)
		}
	}
	return nil
}

// manifest keeps a manifest with its config and its layers. What is missing
// cannot be kept; fsck speaks about that, and a pull brings it back.
func (k *keeper) manifest(digest string) error {
	name := "manifests/" + digest
	if k.names[name] {
		return nil
	}
	view := &Txn{s: k.s}
	b, err := view.readBlob("manifests", digest)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	k.name("manifests", digest)
	m, err := parseManifest(b)
	if err != nil {
		return err
	}
	k.name("configs", m.Config.Digest)
	for _, l := range m.Layers {
		if k.names["layers/"+l.Digest] {
			continue
		}
		k.name("layers", l.Digest)
		items, err := k.s.layer(l.Digest)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for i := range items {
			if n := items[i].Node; n != nil && n.Source == tree.SourceObject {
				k.objects[n.Digest] = true
			}
		}
	}
	return nil
}

func (k *keeper) name(dir, name string) {
	if d, err := k.s.readLink(dir, name); err == nil {
		k.names[dir+"/"+name] = true
		k.objects[d] = true
	}
}

// image keeps a file system image with everything it refers to. If it cannot
// be read, nothing is known about its objects and gc must not go on.
func (k *keeper) image(image string) error {
	if k.names["images/"+image] {
		return nil
	}
	k.name("images", image)
	return k.s.eachImageObject(image, func(n *tree.Node) { k.objects[n.Digest] = true })
}

// eachImageObject calls fn for every file of an image that is an object.
func (s *Store) eachImageObject(image string, fn func(*tree.Node)) error {
	d, err := verity.Parse(image)
	if err != nil {
		return err
	}
	f, err := s.openObject(d)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() == 0 {
		return fmt.Errorf("image %s: %w", image, ErrCorrupt)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("map image %s: %w", image, err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if verity.Of(b) != d {
		return fmt.Errorf("image %s: %w", image, ErrCorrupt)
	}
	t, err := erofs.Read(b)
	if err != nil {
		return fmt.Errorf("image %s: %w", image, err)
	}
	return t.Walk("/", func(_ string, n *tree.Node) error {
		if n.Source == tree.SourceObject {
			fn(n)
		}
		return nil
	})
}

// sweep removes names before objects, so that an interrupted sweep leaves no
// name without its object.
func (k *keeper) sweep(ctx context.Context) (GCResult, error) {
	var res GCResult
	for _, dir := range []string{"images", "layers", "manifests", "configs"} {
		entries, err := os.ReadDir(k.s.path(dir))
		if err != nil {
			return res, err
		}
		for _, e := range entries {
			if k.names[dir+"/"+e.Name()] {
				continue
			}
			if err := k.remove(k.s.path(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return res, err
			}
			res.Names++
		}
		if err := syncDir(k.s.path(dir)); err != nil {
			return res, err
		}
	}
	err := k.s.eachObject(func(d verity.Digest, e fs.DirEntry) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if k.objects[d] {
			return nil
		}
		if info, err := e.Info(); err == nil {
			res.Bytes += info.Size()
		}
		if err := k.remove(k.s.objectPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		res.Objects++
		return nil
	})
	return res, err
}

func (k *keeper) remove(path string) error {
	if k.dry {
		return nil
	}
	return os.Remove(path)
}

// eachObject calls fn for every file in objects/ that is named like an object.
func (s *Store) eachObject(fn func(verity.Digest, fs.DirEntry) error) error {
	for i := range 256 {
		sub := fmt.Sprintf("%02x", i)
		entries, err := os.ReadDir(s.path("objects", sub))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
		for _, e := range entries {
			d, err := verity.Parse(sub + e.Name())
			if err != nil {
				continue
			}
			if err := fn(d, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountedImages finds the images that are mounted in any mount namespace, by
// the source that package mount gives its mounts.
func mountedImages() map[string]bool {
	images := map[string]bool{}
	seen := map[string]bool{}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return images
	}
	for _, p := range procs {
		ns, err := os.Readlink(p + "/ns/mnt")
		if err != nil || seen[ns] {
			continue
		}
		b, err := os.ReadFile(p + "/mountinfo")
		if err != nil {
			continue
		}
		seen[ns] = true
		for line := range strings.Lines(string(b)) {
			_, after, ok := strings.Cut(line, " - overlay atomic:")
			if image, _, _ := strings.Cut(after, " "); ok {
				images[image] = true
			}
		}
	}
	return images
}
