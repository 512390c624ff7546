// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"fmt"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
)

// inode is a node on its way into the image.
type inode struct {
	n       *tree.Node
	mode    uint32
	xattrs  []xattr  // without those that plan.xattrs adds
	entries []dirent // of a directory, with "." and ".."
	subdirs uint32

	index   uint32
	pad     uint32 // bytes of padding in front
	nid     uint64
	blocks  uint32 // data blocks elsewhere
	tail    uint32 // data bytes behind the inode
	compact bool
}

type dirent struct {
	name string
	ino  *inode
}

type xattr struct {
	name, value string
	index       uint8
	shared      int64 // offset in the shared area, or -1
}

// suffix is the name as it is stored.
func (x *xattr) suffix() string {
	for _, p := range xattrPrefixes {
		if p.index == x.index {
			return x.name[len(p.prefix):]
		}
	}
	return x.name
}

func (x *xattr) size() uint64 {
	return roundUp(uint64(xattrEntrySize+len(x.suffix())+len(x.value)), 4)
}

func newXattr(name, value string) xattr {
	x := xattr{name: name, value: value, shared: -1}
	for _, p := range xattrPrefixes {
		if strings.HasPrefix(name, p.prefix) {
			x.index = p.index
			break
		}
	}
	return x
}

func (i *inode) isDir() bool { return i.mode&unix.S_IFMT == unix.S_IFDIR }

// external reports whether i is a regular file with content elsewhere.
func (i *inode) external() bool {
	return i.mode&unix.S_IFMT == unix.S_IFREG && i.size() > 0 && i.n.Source != tree.SourceInline
}

// size is st_size of everything but directories.
func (i *inode) size() uint64 {
	switch {
	case i.n.IsWhiteoutDevice():
		return 0
	case i.n.IsSymlink():
		return uint64(len(i.n.Data))
	}
	return i.n.Size
}

// onDiskSize is what the inode's size field says.
func (i *inode) onDiskSize() uint64 {
	switch i.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return uint64(i.blocks)*blockSize + uint64(i.tail)
	case unix.S_IFREG, unix.S_IFLNK:
		return i.size()
	}
	return 0
}

func (i *inode) inodeSize() uint64 {
	if i.compact {
		return compactSize
	}
	return extendedSize
}

// xattrSizes returns the number of shared xattrs and the size of the whole
// xattr area behind an inode.
func xattrSizes(xattrs []xattr) (shared int, area uint64) {
	if len(xattrs) == 0 {
		return 0, 0
	}
	area = xattrHeaderSize
	for k := range xattrs {
		if xattrs[k].shared >= 0 {
			shared++
			area += 4
		} else {
			area += xattrs[k].size()
		}
	}
	return shared, area
}

// plan is the image before it is written.
type plan struct {
	version    uint32
	offsets    map[attribute]int64 // of the shared attributes
	buf        []xattr
	inodes     []*inode // breadth first, which is their order in the image
	shared     []*xattr
	sharedSize uint64
	inodesEnd  uint64
	dataBlocks uint64
	minSec     int64
	minNsec    uint32
	hasACL     bool
	foreign    bool // there are backing files that are no objects
}

func newPlan(t *tree.Tree, version uint32) (*plan, error) {
	p := &plan{version: version}
	if err := p.collect(t.Root); err != nil {
		return nil, err
	}
	p.shareXattrs()
	p.place()
	return p, nil
}

// owners finds the first name, depth first, of every node with several: there
// the inode is stored.
func owners(root *tree.Node) map[*tree.Node]*tree.Node {
	m := map[*tree.Node]*tree.Node{}
	var visit func(dir *tree.Node)
	visit = func(dir *tree.Node) {
		for _, c := range dir.Children {
			if c.Node.IsDir() {
				visit(c.Node)
			} else if c.Node.Linked && m[c.Node] == nil {
				m[c.Node] = dir
			}
		}
	}
	visit(root)
	return m
}

// collect makes the list of inodes, breadth first.
func (p *plan) collect(rootNode *tree.Node) error {
	c := collector{plan: p, owner: owners(rootNode), links: map[*tree.Node]*inode{}, parent: map[*inode]*inode{}}
	root, err := newInode(rootNode)
	if err != nil {
		return fmt.Errorf("/: %w", err)
	}
	root.setXattr(overlayOpaque, "y")
	c.parent[root] = root
	c.rootWhiteout = &tree.Node{
		Mode: unix.S_IFCHR | 0o644, Nlink: 1,
		UID: rootNode.UID, GID: rootNode.GID, Sec: rootNode.Sec, Nsec: rootNode.Nsec,
	}
	if label, ok := rootNode.Xattr(selinuxLabel); ok {
		c.rootWhiteout.Xattrs = []tree.Xattr{{Name: selinuxLabel, Value: label}}
	}
	p.inodes = []*inode{root}
	for at := 0; at < len(p.inodes); at++ {
		dir := p.inodes[at]
		dir.index = uint32(at)
		if !dir.isDir() {
			continue
		}
		children := dir.n.Children
		if dir == root {
			children = withWhiteouts(rootNode, c.rootWhiteout)
		}
		if err := c.directory(dir, children); err != nil {
			return err
		}
	}
	// Names of files whose first name came later in this order.
	for _, l := range c.pending {
		l.dir.entries[l.at].ino = c.links[l.node]
	}
	for _, dir := range p.inodes {
		if dir.isDir() {
			dir.sortEntries()
		}
	}
	return nil
}

type collector struct {
	*plan
	owner        map[*tree.Node]*tree.Node
	links        map[*tree.Node]*inode
	parent       map[*inode]*inode
	rootWhiteout *tree.Node
	pending      []pendingLink
}

type pendingLink struct {
	dir  *inode
	at   int
	node *tree.Node
}

// directory makes the entries of dir and queues the inodes stored there.
func (c *collector) directory(dir *inode, children []tree.Child) error {
	dir.entries = make([]dirent, 0, len(children)+2)
	for _, ch := range children {
		if ch.Name == "" || len(ch.Name) > unix.NAME_MAX {
			return fmt.Errorf("%q: bad length of a name", ch.Name)
		}
		ino, owned := c.links[ch.Node], c.owner[ch.Node]
		if ino == nil && (owned == nil || owned == dir.n) {
			var err error
			if ino, err = c.newChild(dir, ch); err != nil {
				return fmt.Errorf("%q: %w", ch.Name, err)
			}
			if owned != nil {
				c.links[ch.Node] = ino
			}
		}
		if ino == nil {
			c.pending = append(c.pending, pendingLink{dir, len(dir.entries), ch.Node})
		}
		dir.entries = append(dir.entries, dirent{ch.Name, ino})
	}
	dir.entries = append(dir.entries, dirent{".", dir}, dirent{"..", c.parent[dir]})
	delete(c.parent, dir)
	return nil
}

func (c *collector) newChild(dir *inode, ch tree.Child) (*inode, error) {
	ino, err := newInode(ch.Node)
	if err != nil {
		return nil, err
	}
	if ino.n.Source == tree.SourcePath {
		c.foreign = true
	}
	switch {
	case ch.Node.IsDir():
		dir.subdirs++
		c.parent[ino] = dir
	case ch.Node.IsWhiteoutDevice() && ch.Node != c.rootWhiteout:
		c.hideWhiteout(ino, dir)
	}
	c.inodes = append(c.inodes, ino)
	return ino, nil
}

// newInode checks n and gives it the xattrs that overlayfs needs.
func newInode(n *tree.Node) (*inode, error) {
	i := &inode{n: n, mode: n.Mode}
	switch n.Type() {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFLNK:
		if n.Data == "" || len(n.Data) >= unix.PathMax {
			return nil, fmt.Errorf("symlink target of %d bytes", len(n.Data))
		}
	default:
		return nil, fmt.Errorf("unknown file type in mode %o", n.Mode)
	}
	if n.Source == tree.SourceInline && uint64(len(n.Data)) != n.Size {
		return nil, fmt.Errorf("%d bytes of content, size %d", len(n.Data), n.Size)
	}
	if len(n.Xattrs) > 0 {
		i.xattrs = make([]xattr, 0, len(n.Xattrs))
	}
	for _, x := range n.Xattrs {
		name := x.Name
		if rest, ok := strings.CutPrefix(name, overlayPrefix); ok {
			name = overlayEscape + rest
		}
		i.setXattr(name, x.Value)
	}
	if i.external() {
		if _, count := chunking(n.Size); count > chunksMax {
			return nil, fmt.Errorf("size %d is too big", n.Size)
		}
	}
	total := xattrHeaderSize
	for _, x := range i.contentXattrs(i.xattrs) {
		if x.name == "" || len(x.suffix()) > 255 || len(x.value) > 65535 {
			return nil, fmt.Errorf("xattr %q is too long", x.name)
		}
		total += 2*xattrEntrySize - 1 + len(x.name) + len(x.value)
	}
	if total > 65535 {
		return nil, fmt.Errorf("%d bytes of xattrs are too many", total)
	}
	return i, nil
}

// contentXattrs returns xattrs with those by which overlayfs finds and checks
// the data added, if the data is elsewhere. They are made when they are needed:
// keeping them would take more memory than everything else.
func (i *inode) contentXattrs(xattrs []xattr) []xattr {
	if !i.external() {
		return xattrs
	}
	var meta, redirect string
	n := i.n
	if n.HasDigest || n.Source == tree.SourceObject {
		meta = metacopy(n)
	}
	if n.Source == tree.SourceObject {
		redirect = "/" + n.Digest.Path()
	} else if n.Data != "" {
		redirect = "/" + n.Data
	}
	xattrs = insertXattr(xattrs, overlayMeta, meta)
	if redirect != "" {
		xattrs = insertXattr(xattrs, overlayRedir, redirect)
	}
	return xattrs
}

func metacopy(n *tree.Node) string {
	return string([]byte{0, metacopyLen, 0, metacopySHA256}) + string(n.Digest[:])
}

// hideWhiteout turns a whiteout device of the image itself into what overlayfs
// shows as one, and marks its directory.
func (p *plan) hideWhiteout(i, dir *inode) {
	i.mode = unix.S_IFREG | i.mode&^uint32(unix.S_IFMT)
	i.setXattr(overlayEscape+whiteoutName, "")
	i.setXattr(overlayUser+whiteoutName, "")
	dir.setXattr(overlayEscape+whiteoutsName, "")
	dir.setXattr(overlayUser+whiteoutsName, "")
	if p.version >= 1 {
		dir.setXattr(overlayEscape+opaqueName, "x")
		dir.setXattr(overlayUser+opaqueName, "x")
	}
}

func (i *inode) setXattr(name, value string) { i.xattrs = insertXattr(i.xattrs, name, value) }

// insertXattr sets an attribute in a list that is sorted by name.
func insertXattr(list []xattr, name, value string) []xattr {
	k := sort.Search(len(list), func(k int) bool { return list[k].name >= name })
	if k < len(list) && list[k].name == name {
		list[k].value = value
		return list
	}
	list = append(list, xattr{})
	copy(list[k+1:], list[k:])
	list[k] = newXattr(name, value)
	return list
}

func (i *inode) sortEntries() {
	less := func(a, b int) bool { return i.entries[a].name < i.entries[b].name }
	sort.Slice(i.entries, less)
}

// withWhiteouts returns the root's children and, where the names are free, the
// 256 devices 00 to ff that hide the directories of the object store: it is the
// bottom layer of the mount.
func withWhiteouts(root, device *tree.Node) []tree.Child {
	all := make([]tree.Child, len(root.Children), len(root.Children)+256)
	copy(all, root.Children)
	for v := range 256 {
		name := fmt.Sprintf("%02x", v)
		if root.Child(name) == nil {
			all = append(all, tree.Child{Name: name, Node: device})
		}
	}
	sort.Slice(all, func(a, b int) bool { return all[a].Name < all[b].Name })
	return all
}
