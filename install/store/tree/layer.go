// SPDX-License-Identifier: Apache-2.0

package tree

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/hint"
)

// Item is one entry of an image layer, in the order of the archive.
type Item struct {
	// Path is clean and relative to the root, "" for the root itself. The
	// last name may be a whiteout.
	Path string
	// Node is the inode. It is nil for a whiteout and for a hard link.
	Node *Node
	// Link is the Path of the file that a hard link is another name of.
	Link string
	// HardLink tells a hard link to the root's "" from no link.
	HardLink bool
}

// Memory estimates how many bytes of memory the item takes with its node, and
// with what is made of it later on.
func (it *Item) Memory() int64 {
	size := 96 + len(it.Path) + len(it.Link)
	if n := it.Node; n != nil {
		size += 160 + len(n.Data)
		for _, x := range n.Xattrs {
			size += 96 + len(x.Name) + len(x.Value)
		}
	}
	return int64(size)
}

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
)

// Whiteout reports whether the item removes something from the layers below:
// one name, or (opaque) everything in the directory dir.
func (it *Item) Whiteout() (dir, name string, opaque, ok bool) {
	d, base := path.Split(it.Path)
	if !strings.HasPrefix(base, whiteoutPrefix) {
		return "", "", false, false
	}
	d = strings.TrimSuffix(d, "/")
	if base == opaqueMarker {
		return d, "", true, true
	}
	return d, base[len(whiteoutPrefix):], false, true
}

// BadLayerHint is the hint for a layer that no image builder makes.
const BadLayerHint = "the image is malformed or hostile; ask its publisher"

// Apply adds one layer on top of t, as the OCI image specification says:
// whiteouts act on the layers below and never on their own layer, wherever in
// the archive they are.
func (t *Tree) Apply(layer []Item) error {
	for i := range layer {
		dir, name, opaque, ok := layer[i].Whiteout()
		if !ok {
			continue
		}
		n := t.Lookup(dir)
		if n == nil || !n.IsDir() {
			continue
		}
		if opaque {
			n.Children = nil
		} else {
			n.RemoveChild(name)
		}
	}
	// own are the directories this layer has entries for or in: what it put
	// there itself cannot be replaced silently.
	own := map[*Node]bool{}
	for i := range layer {
		if _, _, _, ok := layer[i].Whiteout(); ok {
			continue
		}
		if err := t.add(&layer[i], own); err != nil {
			return hint.New(fmt.Errorf("layer entry %q: %w", layer[i].Path, err), BadLayerHint)
		}
	}
	return nil
}

func (t *Tree) add(it *Item, own map[*Node]bool) error {
	if it.Path == "" {
		if it.Node == nil || !it.Node.IsDir() {
			return fmt.Errorf("the root must be a directory")
		}
		copyMeta(t.Root, it.Node)
		return nil
	}
	dir, base := path.Split(it.Path)
	parent, err := t.parents(strings.TrimSuffix(dir, "/"), own)
	if err != nil {
		return err
	}
	old := parent.Child(base)
	n := it.Node
	if it.HardLink {
		n = t.Lookup(it.Link)
		if n == nil {
			return fmt.Errorf("hard link to %q, which is not in the image", it.Link)
		}
		if n.IsDir() {
			return fmt.Errorf("hard link to %q, which is a directory", it.Link)
		}
	}
	if n.IsDir() && old != nil && old.IsDir() {
		copyMeta(old, n)
		return nil
	}
	if n.IsDir() {
		// The layer may be applied again: keep its own nodes untouched.
		c := *n
		c.Children = nil
		n = &c
	}
	own[n] = true
	parent.SetChild(base, n)
	return nil
}

// parents returns the directory at dir. What is missing is created; what is
// there from a lower layer and is not a directory is replaced, as it is in an
// overlay mount. Within one layer that is an error, because no two programs
// agree on what it means.
func (t *Tree) parents(dir string, own map[*Node]bool) (*Node, error) {
	n := t.Root
	if dir == "" {
		return n, nil
	}
	for name := range strings.SplitSeq(dir, "/") {
		child := n.Child(name)
		if child == nil || !child.IsDir() {
			if child != nil && own[child] {
				return nil, fmt.Errorf("its parent %q is not a directory in the same layer", name)
			}
			child = newDir(0, 0)
			own[child] = true
			n.SetChild(name, child)
		}
		n = child
	}
	return n, nil
}

// copyMeta gives the directory dst the metadata of src.
func copyMeta(dst, src *Node) {
	children := dst.Children
	*dst = *src
	dst.Children = children
}

// CountLinks sets Nlink and Linked of everything but directories from the names
// in the tree. It is to be called after the last change.
func (t *Tree) CountLinks() {
	var reset, count func(n *Node)
	reset = func(n *Node) {
		for _, c := range n.Children {
			if c.Node.IsDir() {
				reset(c.Node)
			} else {
				c.Node.Nlink, c.Node.Linked = 0, false
			}
		}
	}
	count = func(n *Node) {
		for _, c := range n.Children {
			if c.Node.IsDir() {
				count(c.Node)
			} else {
				c.Node.Nlink++
				c.Node.Linked = c.Node.Nlink > 1
			}
		}
	}
	reset(t.Root)
	count(t.Root)
}

// Makedev encodes a device number as the kernel does on disk.
func Makedev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^uint32(0xff)<<12
}

// IsWhiteoutDevice reports whether n is the character device 0:0, which
// overlayfs takes for a whiteout.
func (n *Node) IsWhiteoutDevice() bool {
	return n.Type() == unix.S_IFCHR && n.Rdev == 0
}
