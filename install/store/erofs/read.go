// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
)

// ErrFormat is returned by Read for everything that is not an image as Write
// makes it.
var ErrFormat = errors.New("not a composefs image")

// inlineMax is the largest content that may be in an image.
const inlineMax = 5000

// Read is the inverse of Write. It is for untrusted input: it takes time and
// memory in proportion to the image, whatever that says.
func Read(img []byte) (*tree.Tree, error) {
	r := &reader{img: img, nodes: map[uint64]*tree.Node{}, dirs: map[uint64]bool{}}
	root, err := r.super()
	if err != nil {
		return nil, err
	}
	n, err := r.node(root, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if n == nil || !n.IsDir() {
		return nil, fmt.Errorf("%w: the root is not a directory", ErrFormat)
	}
	t := &tree.Tree{Root: n}
	// Linked is about names; the link counts are the image's own.
	for _, n := range r.nodes {
		n.Linked = r.names[n] > 1
	}
	return t, nil
}

type reader struct {
	img       []byte
	xattrBase uint64
	sec       int64
	nsec      uint32
	nodes     map[uint64]*tree.Node // all but directories, by nid
	names     map[*tree.Node]int
	dirs      map[uint64]bool
	entries   int
}

// at returns n bytes at an offset, or an error.
func (r *reader) at(off, n uint64) ([]byte, error) {
	if off > uint64(len(r.img)) || n > uint64(len(r.img))-off {
		return nil, fmt.Errorf("%d bytes at %d are beyond the end", n, off)
	}
	return r.img[off : off+n : off+n], nil
}

func (r *reader) super() (root uint64, err error) {
	b, err := r.at(0, inodesStart)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	s := b[superOffset:]
	switch {
	case le.Uint32(b) != headerMagic || le.Uint32(s) != superMagic:
		return 0, fmt.Errorf("%w: wrong magic number", ErrFormat)
	case le.Uint32(b[4:]) != 1 || le.Uint32(b[12:]) > 1:
		return 0, fmt.Errorf("%w: unknown version %d.%d", ErrFormat, le.Uint32(b[4:]), le.Uint32(b[12:]))
	case s[12] != blockBits || le.Uint32(s[40:]) != 0 || le.Uint32(s[80:]) != 0:
		return 0, fmt.Errorf("%w: features that composefs does not use", ErrFormat)
	}
	r.sec, r.nsec = int64(le.Uint64(s[24:])), le.Uint32(s[32:])
	r.xattrBase = uint64(le.Uint32(s[44:])) * blockSize
	r.names = map[*tree.Node]int{}
	return uint64(le.Uint16(s[14:])), nil
}

// rawInode is an inode with the two on-disk forms made one.
type rawInode struct {
	layout, icount uint16
	size           uint64
	u              uint32
	end            uint64 // offset behind the inode
}

func (r *reader) inode(nid uint64) (*tree.Node, *rawInode, error) {
	if nid > math.MaxUint64/slotSize {
		return nil, nil, fmt.Errorf("inode number %d", nid)
	}
	off := nid * slotSize
	b, err := r.at(off, compactSize)
	if err != nil {
		return nil, nil, err
	}
	format := le.Uint16(b)
	raw := &rawInode{layout: format >> 1 & 7, icount: le.Uint16(b[2:]), u: le.Uint32(b[16:])}
	n := &tree.Node{Mode: uint32(le.Uint16(b[4:]))}
	if format&1 == 0 {
		n.Nlink, raw.size = uint32(le.Uint16(b[6:])), uint64(le.Uint32(b[8:]))
		n.UID, n.GID = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
		n.Sec, n.Nsec = r.sec, r.nsec
		raw.end = off + compactSize
		return n, raw, nil
	}
	if b, err = r.at(off, extendedSize); err != nil {
		return nil, nil, err
	}
	raw.size = le.Uint64(b[8:])
	n.UID, n.GID = le.Uint32(b[24:]), le.Uint32(b[28:])
	n.Sec, n.Nsec = int64(le.Uint64(b[32:])), le.Uint32(b[40:])
	n.Nlink = le.Uint32(b[44:])
	raw.end = off + extendedSize
	return n, raw, nil
}

// maxDepth bounds the recursion. Linux has no such limit, PATH_MAX is one.
const maxDepth = 2048

// node reads the file at nid with everything below it. It returns nil for a
// whiteout device, which is never a file of the image.
func (r *reader) node(nid uint64, depth int) (*tree.Node, error) {
	if known := r.nodes[nid]; known != nil {
		return known, nil
	}
	n, raw, err := r.inode(nid)
	if err != nil {
		return nil, err
	}
	area := uint64(0)
	if raw.icount > 0 {
		area = xattrHeaderSize + uint64(raw.icount-1)*4
	}
	switch n.Type() {
	case unix.S_IFDIR:
		if depth > maxDepth {
			return nil, fmt.Errorf("more than %d directories deep", maxDepth)
		}
		if r.dirs[nid] {
			return nil, fmt.Errorf("directory %d has two names", nid)
		}
		r.dirs[nid] = true
		n.Nlink = 0
		err = r.directory(n, raw, area, depth)
	case unix.S_IFLNK:
		var b []byte
		if b, err = r.data(raw, area, unix.PathMax); err == nil && len(b) == 0 {
			err = errors.New("empty symlink")
		}
		n.Data, n.Size = string(b), raw.size
	case unix.S_IFREG:
		n.Size = raw.size
		if raw.size > 0 && raw.layout != layoutChunk {
			var b []byte
			b, err = r.data(raw, area, inlineMax)
			n.Data, n.Source = string(b), tree.SourceInline
		} else if raw.size > 0 {
			n.Source = tree.SourcePath
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Rdev = raw.u
	case unix.S_IFIFO, unix.S_IFSOCK:
	default:
		err = fmt.Errorf("inode %d has the mode %o", nid, n.Mode)
	}
	if err != nil {
		return nil, err
	}
	if n.IsWhiteoutDevice() {
		return nil, nil
	}
	if err := r.xattrs(n, raw, area); err != nil {
		return nil, err
	}
	if !n.IsDir() {
		r.nodes[nid] = n
	}
	return n, nil
}

// data returns the content of a flat inode.
func (r *reader) data(raw *rawInode, area, limit uint64) ([]byte, error) {
	if raw.size > limit {
		return nil, fmt.Errorf("%d bytes of data, at most %d allowed", raw.size, limit)
	}
	blocks, tail := raw.size, uint64(0)
	switch raw.layout {
	case layoutPlain:
	case layoutInline:
		tail = raw.size % blockSize
		blocks -= tail
	default:
		return nil, fmt.Errorf("data layout %d", raw.layout)
	}
	var b []byte
	var err error
	if blocks > 0 {
		if b, err = r.at(uint64(raw.u)*blockSize, blocks); err != nil {
			return nil, err
		}
	}
	if tail > 0 {
		t, err := r.at(raw.end+area, tail)
		if err != nil {
			return nil, err
		}
		b = append(b, t...)
	}
	return b, nil
}

func (r *reader) directory(n *tree.Node, raw *rawInode, area uint64, depth int) error {
	b, err := r.data(raw, area, uint64(len(r.img)))
	if err != nil {
		return err
	}
	last := ""
	for len(b) > 0 {
		block := b[:min(len(b), blockSize)]
		b = b[len(block):]
		if last, err = r.dirBlock(n, block, last, depth); err != nil {
			return err
		}
	}
	return nil
}

// dirBlock reads the entries of one block; last is the name before them.
func (r *reader) dirBlock(n *tree.Node, block []byte, last string, depth int) (string, error) {
	if len(block) < direntSize {
		return "", errors.New("directory block is too short")
	}
	first := int(le.Uint16(block[8:]))
	if first == 0 || first%direntSize != 0 || first > len(block) {
		return "", fmt.Errorf("directory block with the name offset %d", first)
	}
	count := first / direntSize
	for i := range count {
		e := block[i*direntSize:]
		from, to := int(le.Uint16(e[8:])), len(block)
		if i+1 < count {
			to = int(le.Uint16(e[direntSize+8:]))
		}
		if from < first || to < from || to > len(block) {
			return "", fmt.Errorf("directory entry with a name from %d to %d", from, to)
		}
		name := string(block[from:to])
		if i+1 == count {
			name, _, _ = strings.Cut(name, "\x00")
		}
		if name == "" || len(name) > unix.NAME_MAX || strings.ContainsAny(name, "/\x00") || name <= last {
			return "", fmt.Errorf("directory entry %q after %q", name, last)
		}
		last = name
		if name == "." || name == ".." {
			continue
		}
		// Directories can share blocks: what bounds the tree is the image.
		if r.entries++; r.entries > len(r.img)/direntSize {
			return "", errors.New("more entries than the image has room for")
		}
		child, err := r.node(le.Uint64(e), depth+1)
		if err != nil {
			return "", fmt.Errorf("%s/%w", name, err)
		}
		if child != nil {
			n.Children = append(n.Children, tree.Child{Name: name, Node: child})
			r.names[child]++
		}
	}
	return last, nil
}
