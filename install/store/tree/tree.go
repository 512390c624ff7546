// SPDX-License-Identifier: Apache-2.0

// Package tree is a root file system held in memory.
//
// A Tree has metadata for everything and content for nothing but symlinks and
// tiny files; the content of other files is an object of the store, named by
// its fs-verity digest. Image layers are applied to a Tree, files below
// /exports are read from it, mount points are added to it, and package erofs
// writes it as an image. Nothing is ever extracted by path: a hostile name can
// only end up as a name in a Tree.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/verity"
)

// InlineMax is the size up to which content is kept in the image itself.
const InlineMax = 64

// Source says where the content of a regular file is.
type Source uint8

const (
	// SourceNone is an empty file, or no regular file.
	SourceNone Source = iota
	// SourceInline is content kept in Node.Data.
	SourceInline
	// SourceObject is an object of the store, named by Node.Digest.
	SourceObject
	// SourcePath is a backing file at Node.Data. The store makes none of
	// those; they exist for images that others made.
	SourcePath
)

// Node is one inode. A Node with several names is one file with hard links.
type Node struct {
	// Mode is st_mode with the file type.
	Mode     uint32
	UID, GID uint32
	// Rdev is the device number of a device node, in the kernel's encoding.
	Rdev uint32
	// Nlink is the link count of everything but directories. Linked is set if
	// the node has more than one name in its tree.
	Nlink  uint32
	Linked bool
	// Sec and Nsec are the modification time.
	Nsec uint32
	Sec  int64
	Size uint64
	// Data is the target of a symlink or, for a regular file, what Source says.
	Data   string
	Digest verity.Digest
	Source Source
	// HasDigest is set when Digest is to be verified for SourcePath.
	HasDigest bool
	// Xattrs are sorted by name.
	Xattrs []Xattr
	// Children are sorted by name.
	Children []Child
}

// Xattr is one extended attribute.
type Xattr struct{ Name, Value string }

// Child is one name in a directory.
type Child struct {
	Name string
	Node *Node
}

// Type returns the file type bits (unix.S_IFMT) of the mode.
func (n *Node) Type() uint32 { return n.Mode & unix.S_IFMT }

// IsDir reports whether n is a directory.
func (n *Node) IsDir() bool { return n.Type() == unix.S_IFDIR }

// IsRegular reports whether n is a regular file.
func (n *Node) IsRegular() bool { return n.Type() == unix.S_IFREG }

// IsSymlink reports whether n is a symbolic link; Data is its target.
func (n *Node) IsSymlink() bool { return n.Type() == unix.S_IFLNK }

// Child returns the entry called name, or nil.
func (n *Node) Child(name string) *Node {
	if i, ok := n.find(name); ok {
		return n.Children[i].Node
	}
	return nil
}

func (n *Node) find(name string) (int, bool) {
	c := n.Children
	// Archives are mostly sorted: look at the end first.
	if len(c) > 0 && c[len(c)-1].Name < name {
		return len(c), false
	}
	i := sort.Search(len(c), func(i int) bool { return c[i].Name >= name })
	return i, i < len(c) && c[i].Name == name
}

// SetChild adds or replaces the entry called name.
func (n *Node) SetChild(name string, child *Node) {
	i, ok := n.find(name)
	if ok {
		n.Children[i].Node = child
		return
	}
	n.Children = append(n.Children, Child{})
	copy(n.Children[i+1:], n.Children[i:])
	n.Children[i] = Child{Name: name, Node: child}
}

// RemoveChild removes the entry called name, if there is one.
func (n *Node) RemoveChild(name string) {
	if i, ok := n.find(name); ok {
		n.Children = append(n.Children[:i], n.Children[i+1:]...)
	}
}

// Xattr returns the value of an extended attribute.
func (n *Node) Xattr(name string) (string, bool) {
	for _, x := range n.Xattrs {
		if x.Name == name {
			return x.Value, true
		}
	}
	return "", false
}

// SetXattr sets an extended attribute and keeps the list sorted.
func (n *Node) SetXattr(name, value string) {
	i := sort.Search(len(n.Xattrs), func(i int) bool { return n.Xattrs[i].Name >= name })
	if i < len(n.Xattrs) && n.Xattrs[i].Name == name {
		n.Xattrs[i].Value = value
		return
	}
	n.Xattrs = append(n.Xattrs, Xattr{})
	copy(n.Xattrs[i+1:], n.Xattrs[i:])
	n.Xattrs[i] = Xattr{Name: name, Value: value}
}

// RemoveXattr removes an extended attribute, if there is one.
func (n *Node) RemoveXattr(name string) {
	for i, x := range n.Xattrs {
		if x.Name == name {
			n.Xattrs = append(n.Xattrs[:i], n.Xattrs[i+1:]...)
			return
		}
	}
}

// Tree is a root directory and a way to read the objects it refers to.
type Tree struct {
	Root *Node
	// OpenObject opens an object of the store; nil if there is no store.
	OpenObject func(verity.Digest) (io.ReadCloser, error)
}

// New returns a Tree with an empty root directory (0755, root, time zero).
func New() *Tree { return &Tree{Root: newDir(0, 0)} }

func newDir(sec int64, nsec uint32) *Node {
	return &Node{Mode: unix.S_IFDIR | 0o755, Sec: sec, Nsec: nsec}
}

// split cuts a slash-separated path into its names. Empty and "." names do not
// count; ".." is refused, because what it means depends on symlinks.
func split(path string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		switch name {
		case "", ".":
		case "..":
			return nil, fmt.Errorf("path %q has a \"..\" in it", path)
		default:
			names = append(names, name)
		}
	}
	return names, nil
}

// Lookup returns the node at path without following symlinks, or nil.
func (t *Tree) Lookup(path string) *Node {
	names, err := split(path)
	if err != nil {
		return nil
	}
	n := t.Root
	for _, name := range names {
		if n = n.Child(name); n == nil {
			return nil
		}
	}
	return n
}

// maxSymlinks is how many symlinks one path may cross, as in the kernel.
const maxSymlinks = 40

// Resolve returns the node at path and its real path. Symlinks are followed
// inside the tree: none leads out of it. The error is fs.ErrNotExist if there
// is no such file.
func (t *Tree) Resolve(path string) (*Node, string, error) {
	stack, real, missing, err := t.walk(path)
	if err != nil {
		return nil, "", err
	}
	if len(missing) > 0 {
		return nil, "", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return stack[len(stack)-1], "/" + strings.Join(real, "/"), nil
}

// walk follows path as far as it exists. It returns the nodes from the root to
// the last one that exists, their names, and the names that are missing.
func (t *Tree) walk(path string) (stack []*Node, real, missing []string, err error) {
	todo := strings.Split(path, "/")
	stack = []*Node{t.Root}
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(missing) > 0 {
				missing = missing[:len(missing)-1]
			} else if len(real) > 0 {
				stack, real = stack[:len(stack)-1], real[:len(real)-1]
			}
			continue
		}
		if len(missing) > 0 {
			missing = append(missing, name)
			continue
		}
		dir := stack[len(stack)-1]
		if !dir.IsDir() {
			return nil, nil, nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
		}
		n := dir.Child(name)
		switch {
		case n == nil:
			missing = append(missing, name)
		case n.IsSymlink():
			if links++; links > maxSymlinks {
				return nil, nil, nil, &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
			}
			if strings.HasPrefix(n.Data, "/") {
				stack, real = stack[:1], real[:0]
			}
			todo = append(strings.Split(n.Data, "/"), todo...)
		default:
			stack, real = append(stack, n), append(real, name)
		}
	}
	return stack, real, missing, nil
}

// ErrTooBig is returned by ReadFile for a file above the limit.
var ErrTooBig = errors.New("file is too big")

// ReadFile returns the content of the regular file at path, following symlinks
// inside the tree. Content from an object is checked against its digest. A
// file of more than limit bytes is refused.
func (t *Tree) ReadFile(path string, limit int64) ([]byte, error) {
	n, real, err := t.Resolve(path)
	if err != nil {
		return nil, err
	}
	if !n.IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", real)
	}
	if n.Size > uint64(limit) {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d allowed: %w", real, n.Size, limit, ErrTooBig)
	}
	switch n.Source {
	case SourceNone:
		return nil, nil
	case SourceInline:
		return []byte(n.Data), nil
	case SourceObject:
		return t.readObject(real, n)
	default:
		return nil, fmt.Errorf("read %s: content is not in the store", real)
	}
}

func (t *Tree) readObject(path string, n *Node) ([]byte, error) {
	if t.OpenObject == nil {
		return nil, fmt.Errorf("read %s: no store to read from", path)
	}
	f, err := t.OpenObject(n.Digest)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(n.Size)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if verity.Of(b) != n.Digest {
		return nil, fmt.Errorf("read %s: object %s has other content than its name says", path, n.Digest)
	}
	return b, nil
}

// Walk calls fn for dir itself and for everything below it, parents first,
// names in byte order. Symlinks are not followed. A dir that does not exist is
// not an error: there is nothing to walk. fs.SkipDir and fs.SkipAll work as in
// fs.WalkDir.
func (t *Tree) Walk(dir string, fn func(path string, n *Node) error) error {
	names, err := split(dir)
	if err != nil {
		return err
	}
	n := t.Lookup(dir)
	if n == nil {
		return nil
	}
	err = walkNode("/"+strings.Join(names, "/"), n, fn)
	if errors.Is(err, fs.SkipAll) || errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}

func walkNode(path string, n *Node, fn func(string, *Node) error) error {
	if err := fn(path, n); err != nil {
		if n.IsDir() && errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	for _, c := range n.Children {
		if err := walkNode(strings.TrimSuffix(path, "/")+"/"+c.Name, c.Node, fn); err != nil {
			return err
		}
	}
	return nil
}

// AddMountPoint makes sure that something can be mounted at path: a directory
// if dir is true, else a regular file. Symlinks on the way are followed inside
// the tree, as the runtime does. What is missing is created with mode 0755 (or
// 0644), owner root and the times of the directory it is created in, so that
// the same tree and the same mount points always give the same image.
func (t *Tree) AddMountPoint(path string, dir bool) error {
	stack, real, missing, err := t.walk(path)
	if err != nil {
		return fmt.Errorf("add mount point %s: %w", path, err)
	}
	n := stack[len(stack)-1]
	if len(missing) == 0 {
		if n.IsDir() != dir {
			return fmt.Errorf("add mount point %s: /%s is in the image, but is %s", path,
				strings.Join(real, "/"), map[bool]string{true: "a directory", false: "not a directory"}[n.IsDir()])
		}
		return nil
	}
	if !n.IsDir() {
		return fmt.Errorf("add mount point %s: /%s is not a directory", path, strings.Join(real, "/"))
	}
	for i, name := range missing {
		child := newDir(n.Sec, n.Nsec)
		if i == len(missing)-1 && !dir {
			child.Mode = unix.S_IFREG | 0o644
			child.Nlink = 1
		}
		n.SetChild(name, child)
		n = child
	}
	return nil
}
