// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// attribute is an extended attribute with its value.
type attribute struct{ name, value string }

// xattrs returns all attributes of an inode, in order, those that are shared
// with their place. The slice is good until the next call.
func (p *plan) xattrs(i *inode) []xattr {
	p.buf = i.contentXattrs(append(p.buf[:0], i.xattrs...))
	n := 0
	for k := range p.buf {
		x := &p.buf[k]
		if o, ok := p.offsets[attribute{x.name, x.value}]; ok && n < sharedMax {
			x.shared = o
			n++
		}
	}
	return p.buf
}

// shareXattrs moves every attribute that occurs more than once to the shared
// area and finds the smallest time and whether there are ACLs.
func (p *plan) shareXattrs() {
	// The content's attributes follow from the digest alone, unless there are
	// backing files that are no objects.
	byDigest := map[verity.Digest]bool{} // true: more than once
	counted := map[attribute]bool{}
	count := func(a attribute) { _, more := counted[a]; counted[a] = more }
	p.minSec, p.minNsec = p.inodes[0].n.Sec, p.inodes[0].n.Nsec
	for _, i := range p.inodes {
		if i.n.Sec < p.minSec || i.n.Sec == p.minSec && i.n.Nsec < p.minNsec {
			p.minSec, p.minNsec = i.n.Sec, i.n.Nsec
		}
		if !p.foreign && i.external() {
			_, more := byDigest[i.n.Digest]
			byDigest[i.n.Digest] = more
		}
		list := i.xattrs
		if p.foreign {
			p.buf = i.contentXattrs(append(p.buf[:0], list...))
			list = p.buf
		}
		for k := range list {
			count(attribute{list[k].name, list[k].value})
			if list[k].name == aclAccess || list[k].name == aclDefault {
				p.hasACL = true
			}
		}
	}
	for d, more := range byDigest {
		if more {
			n := &tree.Node{Digest: d}
			counted[attribute{overlayMeta, metacopy(n)}] = true
			counted[attribute{overlayRedir, "/" + d.Path()}] = true
		}
	}
	for a, more := range counted {
		if more {
			x := newXattr(a.name, a.value)
			p.shared = append(p.shared, &x)
		}
	}
	slices.SortFunc(p.shared, func(a, b *xattr) int {
		return cmp.Or(cmp.Compare(b.name, a.name), cmp.Compare(len(b.value), len(a.value)), cmp.Compare(b.value, a.value))
	})
	p.offsets = make(map[attribute]int64, len(p.shared))
	for _, x := range p.shared {
		p.offsets[attribute{x.name, x.value}] = int64(p.sharedSize)
		p.sharedSize += x.size()
	}
}

// place gives every inode its position.
func (p *plan) place() {
	pos := uint64(inodesStart)
	for _, i := range p.inodes {
		i.dataSizes()
		i.compact = i.fitsCompact(p.minSec, p.minNsec)
		_, area := xattrSizes(p.xattrs(i))
		start := roundUp(pos, slotSize)
		start += i.padForTail(start, i.inodeSize()+area)
		i.pad = uint32(start - pos)
		i.nid = start / slotSize
		p.dataBlocks += uint64(i.blocks)
		pos = start + i.inodeSize() + area + uint64(i.tail)
	}
	p.inodesEnd = roundUp(pos, slotSize)
}

// dataSizes computes how much data goes to blocks and to the inode's tail.
func (i *inode) dataSizes() {
	i.blocks, i.tail = 0, 0
	switch i.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		i.eachBlock(func(first, last int, size uint32) {
			if last < len(i.entries) || size > blockSize/2 {
				i.blocks++
			} else {
				i.tail = size
			}
		})
	case unix.S_IFLNK:
		i.tail = uint32(len(i.n.Data))
	case unix.S_IFREG:
		size := i.size()
		if i.external() {
			_, count := chunking(size)
			i.tail = uint32(count * 4)
			return
		}
		i.blocks, i.tail = uint32(size/blockSize), uint32(size%blockSize)
		if i.tail > blockSize/2 {
			i.blocks++
			i.tail = 0
		}
	}
}

// eachBlock cuts the entries of a directory into blocks: entries first to last
// (exclusive) take size bytes.
func (i *inode) eachBlock(fn func(first, last int, size uint32)) {
	first, size := 0, uint32(0)
	for k := range i.entries {
		n := uint32(direntSize + len(i.entries[k].name))
		if size+n > blockSize {
			fn(first, k, size)
			first, size = k, 0
		}
		size += n
	}
	fn(first, len(i.entries), size)
}

func (i *inode) fitsCompact(sec int64, nsec uint32) bool {
	const max16, max32 = 1<<16 - 1, 1<<32 - 1
	return i.n.Sec == sec && i.n.Nsec == nsec &&
		i.nlink() <= max16 && i.n.UID <= max16 && i.n.GID <= max16 && i.onDiskSize() <= max32
}

func (i *inode) nlink() uint32 {
	if i.isDir() {
		return 2 + i.subdirs
	}
	return i.n.Nlink
}

// padForTail returns how far an inode at pos must move so that its tail does
// not cross a block, and moves the tail to a block of its own if it must. head
// is the size of the inode with its xattrs.
func (i *inode) padForTail(pos, head uint64) uint64 {
	tail := uint64(i.tail)
	if i.mode&unix.S_IFMT == unix.S_IFLNK {
		// All of a symlink must be in one block.
		total := head + tail
		if total >= blockSize {
			i.blocks++
			i.tail = 0
		}
		if pos/blockSize != (pos+total-1)/blockSize {
			return roundUp(pos, blockSize) - pos
		}
		return 0
	}
	left := blockSize - (pos+head)%blockSize
	if left >= tail {
		return 0
	}
	pad := roundUp(left, slotSize)
	if tail <= blockSize-(pos+head+pad)%blockSize {
		return pad
	}
	i.blocks++
	i.tail = 0
	return roundUp(pos, blockSize) - pos
}
