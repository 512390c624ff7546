// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/erofs"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// FindImage returns the file system image of a ref, written NAME (its newest
// generation) or NAME.N.
func (s *Store) FindImage(name string) (string, error) {
	refs, err := s.Refs()
	if err != nil {
		return "", err
	}
	image := ""
	for _, r := range refs {
		if r.Name == name || fmt.Sprintf("%s.%d", r.Name, r.Generation) == name {
			image = r.Image
		}
	}
	if image == "" {
		return "", fmt.Errorf("container %s: %w", name, ErrNotFound)
	}
	return image, nil
}

// ImageOf returns the file system image of a container (see FindImage) or of a
// pulled image, for which it is made if nobody has needed it yet. An image name
// may be shortened at its front, and its tag is "latest" if it has none.
func (s *Store) ImageOf(ctx context.Context, name string) (string, error) {
	image, err := s.FindImage(name)
	if !IsNotFound(err) {
		return image, err
	}
	manifest, err := s.findTag(name)
	if err != nil {
		return "", err
	}
	txn, err := s.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer txn.Abort()
	img, err := txn.Load(manifest)
	if err != nil {
		return "", err
	}
	if image, err = txn.PutImage(img.Tree); err != nil {
		return "", err
	}
	return image, txn.Commit()
}

func (s *Store) findTag(name string) (manifest string, err error) {
	if base := name[strings.LastIndexByte(name, '/')+1:]; !strings.ContainsAny(base, ":@") {
		name += ":latest"
	}
	images, err := s.Images()
	if err != nil {
		return "", err
	}
	var names []string
	for _, i := range images {
		if i.Name == name {
			return i.ManifestDigest, nil
		}
		if strings.HasSuffix(i.Name, "/"+name) {
			names = append(names, i.Name)
			manifest = i.ManifestDigest
		}
	}
	switch len(names) {
	case 1:
		return manifest, nil
	case 0:
		return "", hint.New(fmt.Errorf("no container or image %s: %w", name, ErrNotFound), "see what there is: atomic containers list; atomic images list")
	}
	return "", fmt.Errorf("%s could be any of %s", name, strings.Join(names, ", "))
}

// ReadTree reads a file system image. The tree can read its files' content.
func (s *Store) ReadTree(ctx context.Context, image string) (*tree.Tree, error) {
	lock, err := s.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	return s.readTree(image)
}

func (s *Store) readTree(image string) (*tree.Tree, error) {
	d, err := s.readLink("images", image)
	if err != nil {
		return nil, err
	}
	f, err := s.openObject(d)
	if err != nil {
		return nil, s.explain(err)
	}
	b, err := readAll(f, d, layerListMax)
	if err != nil {
		return nil, s.explain(err)
	}
	t, err := erofs.Read(b)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image, err)
	}
	t.OpenObject = (&Txn{s: s}).OpenObject
	return t, nil
}

// Change is one difference between two trees.
type Change struct {
	Path string `json:"path"`
	// Kind is "added", "removed" or "changed".
	Kind string `json:"kind"`
	// What has changed: "type", "content", "mode", "owner", "time", "xattrs".
	What []string `json:"what,omitempty"`
}

// Diff compares two trees. Below a directory that is only in one of them
// everything is listed.
func Diff(a, b *tree.Tree) []Change {
	var d differ
	d.node("/", a.Root, b.Root)
	return d.changes
}

type differ struct{ changes []Change }

func (d *differ) one(path, kind string, n *tree.Node) {
	d.changes = append(d.changes, Change{Path: path, Kind: kind})
	for _, c := range n.Children {
		d.one(join(path, c.Name), kind, c.Node)
	}
}

func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

func (d *differ) node(path string, a, b *tree.Node) {
	if what := differences(a, b); len(what) > 0 {
		d.changes = append(d.changes, Change{path, "changed", what})
	}
	x, y := a.Children, b.Children
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].Name < y[0].Name:
			d.one(join(path, x[0].Name), "removed", x[0].Node)
			x = x[1:]
		case len(x) == 0 || y[0].Name < x[0].Name:
			d.one(join(path, y[0].Name), "added", y[0].Node)
			y = y[1:]
		default:
			d.node(join(path, x[0].Name), x[0].Node, y[0].Node)
			x, y = x[1:], y[1:]
		}
	}
}

func differences(a, b *tree.Node) (what []string) {
	add := func(different bool, name string) {
		if different {
			what = append(what, name)
		}
	}
	add(a.Type() != b.Type(), "type")
	add(a.Size != b.Size && !a.IsDir() || digestOf(a) != digestOf(b) || a.Data != b.Data || a.Rdev != b.Rdev, "content")
	add(a.Mode&0o7777 != b.Mode&0o7777, "mode")
	add(a.UID != b.UID || a.GID != b.GID, "owner")
	add(a.Sec != b.Sec || a.Nsec != b.Nsec, "time")
	same := len(a.Xattrs) == len(b.Xattrs)
	for i := 0; same && i < len(a.Xattrs); i++ {
		same = a.Xattrs[i] == b.Xattrs[i]
	}
	add(!same, "xattrs")
	return what
}

func digestOf(n *tree.Node) (d verity.Digest) {
	if n.Source == tree.SourceObject {
		d = n.Digest
	}
	return d
}
