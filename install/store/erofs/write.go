// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
)

// Version is the composefs format version of the images the store makes.
const Version = 1

// Write writes the image of t in a composefs format version (0 or 1). Every
// Node.Nlink must be right (tree.CountLinks).
func Write(w io.Writer, t *tree.Tree, version uint32) error {
	if version > 1 {
		return fmt.Errorf("write image: unknown format version %d", version)
	}
	if t.Root == nil || !t.Root.IsDir() {
		return errors.New("write image: the root is not a directory")
	}
	p, err := newPlan(t, version)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	wr := &writer{plan: p, w: bufio.NewWriterSize(w, 256<<10)}
	wr.header()
	dataStart := roundUp(p.inodesEnd+p.sharedSize, blockSize)
	wr.nextBlock = dataStart / blockSize
	for _, i := range p.inodes {
		wr.inode(i)
	}
	wr.align(slotSize)
	for _, x := range p.shared {
		wr.xattr(x)
	}
	wr.align(blockSize)
	for _, i := range p.inodes {
		wr.blocks(i)
	}
	if wr.err == nil {
		wr.err = wr.w.Flush()
	}
	if wr.err != nil {
		return fmt.Errorf("write image: %w", wr.err)
	}
	if want := dataStart + p.dataBlocks*blockSize; wr.pos != want {
		return fmt.Errorf("write image: %d bytes written, %d planned", wr.pos, want)
	}
	return nil
}

// writer keeps the first error; the calls after it do nothing.
type writer struct {
	*plan
	w         *bufio.Writer
	pos       uint64
	nextBlock uint64
	err       error
	buf       []byte
}

func (w *writer) write(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
	w.pos += uint64(len(b))
}

func (w *writer) writeString(s string) {
	if w.err == nil {
		_, w.err = w.w.WriteString(s)
	}
	w.pos += uint64(len(s))
}

var zeros [blockSize]byte

func (w *writer) zero(n uint64) {
	for n > 0 {
		c := min(n, blockSize)
		w.write(zeros[:c])
		n -= c
	}
}

func (w *writer) align(to uint64) { w.zero(roundUp(w.pos, to) - w.pos) }

func (w *writer) header() {
	b := make([]byte, inodesStart)
	le.PutUint32(b[0:], headerMagic)
	le.PutUint32(b[4:], 1)
	if w.hasACL {
		le.PutUint32(b[8:], 1)
	}
	le.PutUint32(b[12:], w.version)
	s := b[superOffset:]
	le.PutUint32(s[0:], superMagic)
	le.PutUint32(s[8:], featureMtime|featureXattrFilter)
	s[12] = blockBits
	le.PutUint16(s[14:], uint16(w.inodes[0].nid))
	le.PutUint64(s[16:], uint64(len(w.inodes)))
	le.PutUint64(s[24:], uint64(w.minSec))
	le.PutUint32(s[32:], w.minNsec)
	le.PutUint32(s[36:], uint32(roundUp(w.inodesEnd+w.sharedSize, blockSize)/blockSize+w.dataBlocks))
	le.PutUint32(s[44:], uint32(w.inodesEnd/blockSize))
	w.write(b)
}

// inode writes the inode itself, its xattrs and its tail.
func (w *writer) inode(i *inode) {
	w.zero(uint64(i.pad))
	xattrs := w.xattrs(i)
	shared, area := xattrSizes(xattrs)
	layout, u := w.dataPointer(i)
	format := layout << 1
	icount := uint16(0)
	if area > 0 {
		icount = uint16((area-xattrHeaderSize)/4 + 1)
	}
	b := append(w.buf[:0], zeros[:extendedSize]...)
	le.PutUint16(b[2:], icount)
	le.PutUint16(b[4:], uint16(i.mode))
	le.PutUint32(b[16:], u)
	le.PutUint32(b[20:], i.index)
	if i.compact {
		le.PutUint16(b[6:], uint16(i.nlink()))
		le.PutUint32(b[8:], uint32(i.onDiskSize()))
		le.PutUint16(b[24:], uint16(i.n.UID))
		le.PutUint16(b[26:], uint16(i.n.GID))
		b = b[:compactSize]
	} else {
		format |= 1
		le.PutUint64(b[8:], i.onDiskSize())
		le.PutUint32(b[24:], i.n.UID)
		le.PutUint32(b[28:], i.n.GID)
		le.PutUint64(b[32:], uint64(i.n.Sec))
		le.PutUint32(b[40:], i.n.Nsec)
		le.PutUint32(b[44:], i.nlink())
	}
	le.PutUint16(b[0:], format)
	if area > 0 {
		b = append(b, zeros[:xattrHeaderSize]...)
		h := b[len(b)-xattrHeaderSize:]
		le.PutUint32(h, nameFilter(xattrs))
		h[4] = byte(shared)
		base := w.inodesEnd % blockSize
		for k := range xattrs {
			if o := xattrs[k].shared; o >= 0 {
				b = le.AppendUint32(b, uint32((base+uint64(o))/4))
			}
		}
	}
	w.buf = b
	w.write(b)
	for k := range xattrs {
		if xattrs[k].shared < 0 {
			w.xattr(&xattrs[k])
		}
	}
	w.tail(i)
}

// dataPointer returns the data layout and the inode's union field, and takes
// the blocks that the inode needs.
func (w *writer) dataPointer(i *inode) (layout uint16, u uint32) {
	layout = layoutPlain
	if i.tail > 0 {
		layout = layoutInline
	}
	switch i.mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		return layout, i.n.Rdev
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		if i.blocks > 0 {
			u = uint32(w.nextBlock)
			w.nextBlock += uint64(i.blocks)
		}
		if i.external() {
			bits, _ := chunking(i.size())
			return layoutChunk, u&^0xffff | uint32(bits-blockBits)
		}
	}
	return layout, u
}

// nameFilter has a zero bit for each attribute name that may be present.
func nameFilter(xattrs []xattr) uint32 {
	filter := uint32(0xffffffff)
	for k := range xattrs {
		x := &xattrs[k]
		filter &^= 1 << (xxh32(x.suffix(), filterSeed+uint32(x.index)) & 31)
	}
	return filter
}

func (w *writer) xattr(x *xattr) {
	suffix := x.suffix()
	b := append(w.buf[:0], byte(len(suffix)), x.index)
	b = le.AppendUint16(b, uint16(len(x.value)))
	b = append(b, suffix...)
	w.buf = append(b, x.value...)
	w.write(w.buf)
	w.align(4)
}

func (w *writer) tail(i *inode) {
	if i.tail == 0 {
		return
	}
	switch i.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		i.eachBlock(func(first, last int, _ uint32) {
			if last == len(i.entries) {
				w.dirents(i.entries[first:last])
			}
		})
	case unix.S_IFLNK:
		w.writeString(i.n.Data)
	case unix.S_IFREG:
		if i.external() {
			w.nullChunks(uint64(i.tail) / 4)
		} else {
			w.writeString(i.n.Data[len(i.n.Data)-int(i.tail):])
		}
	}
}

// blocks writes the data that is not in the inode's tail.
func (w *writer) blocks(i *inode) {
	if i.blocks == 0 {
		return
	}
	switch i.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		n := uint32(0)
		i.eachBlock(func(first, last int, _ uint32) {
			if n < i.blocks {
				w.dirents(i.entries[first:last])
				w.align(blockSize)
			}
			n++
		})
	case unix.S_IFLNK:
		w.writeString(i.n.Data)
	case unix.S_IFREG:
		if i.external() {
			w.nullChunks(chunksMax)
		} else {
			w.writeString(i.n.Data[:min(len(i.n.Data), int(i.blocks)*blockSize)])
		}
	}
	w.align(blockSize)
}

func (w *writer) nullChunks(n uint64) {
	for range n {
		w.write([]byte{0xff, 0xff, 0xff, 0xff})
	}
}

func (w *writer) dirents(entries []dirent) {
	nameOff := len(entries) * direntSize
	b := w.buf[:0]
	for _, e := range entries {
		b = le.AppendUint64(b, e.ino.nid)
		b = le.AppendUint16(b, uint16(nameOff))
		b = append(b, fileType(e.ino.mode), 0)
		nameOff += len(e.name)
	}
	for _, e := range entries {
		b = append(b, e.name...)
	}
	w.buf = b
	w.write(b)
}
