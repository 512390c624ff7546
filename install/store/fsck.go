// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sort"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// Problem is one thing that fsck found.
type Problem struct {
	// What is damaged: "object …", "layers/sha256:…", "ref etcd.3".
	What string `json:"what"`
	// Why says what is wrong with it.
	Why string `json:"why"`
	// Repaired is set if it is not wrong any more.
	Repaired bool `json:"repaired"`
}

// Report is the result of fsck.
type Report struct {
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"`
	Problems []Problem `json:"problems"`
	// Pull are the images that must be pulled again to bring back what is
	// missing; Reinstall are the refs ("etcd.3") whose image is lost.
	Pull      []string `json:"pull,omitempty"`
	Reinstall []string `json:"reinstall,omitempty"`
}

// Clean reports whether the store is as it should be.
func (r *Report) Clean() bool {
	return !slices.ContainsFunc(r.Problems, func(p Problem) bool { return !p.Repaired })
}

// FsckOptions are the choices of Fsck.
type FsckOptions struct {
	// Repair moves damaged objects to quarantine/, removes names that lead
	// nowhere, and enables fs-verity where it is missing. What is missing then
	// comes back with the next pull of Report.Pull.
	Repair bool
}

// Fsck reads the whole store and reports everything that is wrong with it.
// Installed containers keep running meanwhile.
func (s *Store) Fsck(ctx context.Context, opts FsckOptions) (*Report, error) {
	var lock *os.File
	var err error
	if opts.Repair {
		lock, err = s.lockAll(ctx)
	} else {
		lock, err = s.lock(ctx, unix.LOCK_SH)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	c := &checker{s: s, repair: opts.Repair, size: map[verity.Digest]int64{}}
	if err := c.objects(ctx); err != nil {
		return nil, fmt.Errorf("fsck: %w", err)
	}
	if err := c.names(); err != nil {
		return nil, fmt.Errorf("fsck: %w", err)
	}
	if err := c.roots(); err != nil {
		return nil, fmt.Errorf("fsck: %w", err)
	}
	sort.Slice(c.rep.Problems, func(a, b int) bool { return c.rep.Problems[a].What < c.rep.Problems[b].What })
	return &c.rep, nil
}

type checker struct {
	s      *Store
	repair bool
	mu     sync.Mutex
	size   map[verity.Digest]int64 // of the objects that are all right
	rep    Report
}

func (c *checker) problem(repaired bool, what, why string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rep.Problems = append(c.rep.Problems, Problem{what, fmt.Sprintf(why, args...), repaired})
}

// objects checks that every object has the content its name says.
func (c *checker) objects(ctx context.Context) error {
	jobs := make(chan verity.Digest, 64)
	var wg sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for d := range jobs {
				c.object(d)
			}
		})
	}
	err := c.s.eachObject(func(d verity.Digest, _ fs.DirEntry) error {
		select {
		case jobs <- d:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(jobs)
	wg.Wait()
	return err
}

func (c *checker) object(d verity.Digest) {
	what := "object " + d.String()
	size, err := c.s.verifyObject(d)
	if errors.Is(err, verity.ErrNotEnabled) {
		repaired := c.repair && c.s.seal(c.s.objectPath(d)) == nil
		c.problem(repaired, what, "fs-verity is not enabled")
		err = nil
	}
	if err != nil {
		repaired := c.repair && c.s.quarantine(d) == nil
		c.problem(repaired, what, "%v", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size[d] = size
	c.rep.Objects++
	c.rep.Bytes += size
}

// verifyObject reads an object. verity.ErrNotEnabled comes with a good size.
func (s *Store) verifyObject(d verity.Digest) (int64, error) {
	f, err := s.openObject(d)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return 0, errors.New("not a regular file")
	}
	got, size, err := verity.OfReader(f)
	if err != nil {
		return 0, err
	}
	if got != d {
		return 0, fmt.Errorf("%w: its content has the digest %s", ErrCorrupt, got)
	}
	if s.verity {
		if m, err := verity.Measure(f); err != nil {
			return size, err
		} else if m != d {
			return 0, fmt.Errorf("%w: the kernel measures %s", ErrCorrupt, m)
		}
	}
	return size, nil
}

// quarantine takes an object out of the way but keeps it for a look.
func (s *Store) quarantine(d verity.Digest) error {
	return os.Rename(s.objectPath(d), s.path("quarantine", d.String()))
}

// names checks that every name leads to an object.
func (c *checker) names() error {
	for _, dir := range []string{"images", "layers", "manifests", "configs"} {
		entries, err := os.ReadDir(c.s.path(dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := dir + "/" + e.Name()
			d, err := c.s.readLink(dir, e.Name())
			if err == nil {
				err = c.name(dir, e.Name(), d)
			}
			if err == nil {
				continue
			}
			c.problem(c.repair && os.Remove(c.s.path(dir, e.Name())) == nil, name, "%v", err)
		}
	}
	return nil
}

func (c *checker) name(dir, name string, d verity.Digest) error {
	if _, ok := c.size[d]; !ok {
		return fmt.Errorf("its object %s is missing or damaged", d)
	}
	switch dir {
	case "images":
		if d.String() != name {
			return fmt.Errorf("refers to the object %s", d)
		}
		return c.image(name)
	case "layers":
		items, err := c.s.layer(name)
		if err != nil {
			return err
		}
		for i := range items {
			if n := items[i].Node; n != nil {
				if err := c.content(items[i].Path, n); err != nil {
					return err
				}
			}
		}
	case "manifests", "configs":
		_, err := (&Txn{s: c.s}).readBlob(dir, name)
		return err
	}
	return nil
}

func (c *checker) image(image string) error {
	var bad error
	err := c.s.eachImageObject(image, func(n *tree.Node) {
		if err := c.content(image, n); err != nil && bad == nil {
			bad = err
		}
	})
	if err == nil {
		err = bad
	}
	return err
}

func (c *checker) content(path string, n *tree.Node) error {
	if n.Source != tree.SourceObject {
		return nil
	}
	size, ok := c.size[n.Digest]
	if !ok {
		return fmt.Errorf("%s: object %s is missing or damaged", path, n.Digest)
	}
	if size != int64(n.Size) {
		return fmt.Errorf("%s: object %s has %d bytes, not %d", path, n.Digest, size, n.Size)
	}
	return nil
}

// roots checks that what people have names for is complete.
func (c *checker) roots() error {
	refs, err := c.s.Refs()
	if err != nil {
		return err
	}
	for _, r := range refs {
		what := fmt.Sprintf("%s.%d", r.Name, r.Generation)
		if err := c.root("images", r.Image); err != nil {
			c.problem(false, "ref "+what, "%v", err)
			c.rep.Reinstall = append(c.rep.Reinstall, what)
			if r.Source != "" && !slices.Contains(c.rep.Pull, r.Source) {
				c.rep.Pull = append(c.rep.Pull, r.Source)
			}
		}
	}
	tags, err := os.ReadDir(c.s.path("tags"))
	if err != nil {
		return err
	}
	for _, f := range tags {
		t, err := c.s.readTag(f.Name())
		if err == nil {
			err = c.manifest(t.Manifest)
		}
		if err == nil {
			continue
		}
		c.problem(false, "tags/"+f.Name(), "%v", err)
		if t != nil && !slices.Contains(c.rep.Pull, t.Name) {
			c.rep.Pull = append(c.rep.Pull, t.Name)
		}
	}
	return nil
}

// root checks a name that names has checked before: it is there only if it is
// good, or if nothing is repaired.
func (c *checker) root(dir, name string) error {
	d, err := c.s.readLink(dir, name)
	if err != nil {
		return err
	}
	return c.name(dir, name, d)
}

func (c *checker) manifest(digest string) error {
	if err := c.root("manifests", digest); err != nil {
		return err
	}
	b, err := (&Txn{s: c.s}).readBlob("manifests", digest)
	if err != nil {
		return err
	}
	m, err := parseManifest(b)
	if err != nil {
		return err
	}
	if err := c.root("configs", m.Config.Digest); err != nil {
		return err
	}
	for _, l := range m.Layers {
		if err := c.root("layers", l.Digest); err != nil {
			return err
		}
	}
	return nil
}
