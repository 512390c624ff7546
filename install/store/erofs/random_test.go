// SPDX-License-Identifier: Apache-2.0

package erofs_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// randomTree makes a tree that visits the odd corners of the format: names
// that sort before ".", tails at block boundaries, shared and many xattrs,
// large ids, hard links, devices, whiteouts and ACLs.
func randomTree(seed uint64) *tree.Tree {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), objectsOnly: seed%2 == 0}
	t := &tree.Tree{Root: g.dir()}
	dirs := []*tree.Node{t.Root}
	var files []*tree.Node
	for range 1 + g.IntN(400) {
		dir := dirs[g.IntN(len(dirs))]
		if g.IntN(4) == 0 {
			dir = dirs[len(dirs)-1]
		}
		name := g.name()
		if dir.Child(name) != nil {
			continue
		}
		n := g.node()
		if len(files) > 0 && g.IntN(12) == 0 {
			n = files[g.IntN(len(files))]
		}
		dir.SetChild(name, n)
		if n.IsDir() {
			dirs = append(dirs, n)
		} else {
			files = append(files, n)
		}
	}
	t.CountLinks()
	if g.IntN(20) == 0 {
		for _, f := range files {
			f.Nlink += 65534
			break
		}
	}
	return t
}

type generator struct {
	*rand.Rand
	objectsOnly bool // no backing files of other kinds, as in our store
}

func (g *generator) name() string {
	const odd = "!\"#$%&'()*+,-.0123456789abcdefABC \x01\x7f\xff\\=\n\t"
	n := 1 + g.IntN(12)
	switch g.IntN(20) {
	case 0:
		n = 200 + g.IntN(56)
	case 1:
		return fmt.Sprintf("%02x", g.IntN(256))
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = odd[g.IntN(len(odd))]
	}
	if s := string(b); s != "." && s != ".." {
		return s
	}
	return "..."
}

func (g *generator) meta(mode uint32) *tree.Node {
	n := &tree.Node{Mode: mode | uint32(g.IntN(0o10000))}
	ids := [...]uint32{0, 0, 0, 1000, 65535, 65536, 1 << 31}
	n.UID, n.GID = ids[g.IntN(len(ids))], ids[g.IntN(len(ids))]
	n.Sec = int64(g.IntN(3))*1e9 + 5
	if g.IntN(5) == 0 {
		n.Nsec = uint32(g.IntN(1e9))
	}
	if g.IntN(4) == 0 {
		g.xattrs(n)
	}
	return n
}

func (g *generator) xattrs(n *tree.Node) {
	names := [...]string{
		"user.a", "user.bb", "security.selinux", "security.capability", "trusted.x",
		"trusted.overlay.opaque", "trusted.overlay.overlay.opaque", "user.overlay.whiteout",
		"system.posix_acl_access", "system.posix_acl_default", "lustre.lov", "system.other", "user.",
	}
	count := 1 + g.IntN(5)
	if g.IntN(30) == 0 {
		count = 150
	}
	for i := range count {
		name := names[g.IntN(len(names))]
		if count > 10 {
			name = fmt.Sprintf("user.n%d", i)
		}
		value := [...]string{"", "v", "system_u:object_r:usr_t:s0\x00", strings.Repeat("x", g.IntN(300))}[g.IntN(4)]
		n.SetXattr(name, value)
	}
	if g.IntN(60) == 0 {
		n.SetXattr("user.long", strings.Repeat("l", g.IntN(20000)))
	}
}

func (g *generator) dir() *tree.Node { return g.meta(unix.S_IFDIR) }

func (g *generator) node() *tree.Node {
	switch g.IntN(12) {
	case 0, 1, 2:
		return g.dir()
	case 3:
		n := g.meta(unix.S_IFLNK)
		size := 1 + g.IntN(60)
		if g.IntN(10) == 0 {
			size = 1 + g.IntN(4095)
		}
		n.Data, n.Size = strings.Repeat("t", size), uint64(size)
		return n
	case 4:
		n := g.meta([...]uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK}[g.IntN(4)])
		if n.Type() == unix.S_IFCHR || n.Type() == unix.S_IFBLK {
			n.Rdev = tree.Makedev(uint32(g.IntN(300)), uint32(g.IntN(1<<20)))
			if g.IntN(3) == 0 {
				n.Rdev = 0
			}
		}
		return n
	case 5, 6:
		n := g.meta(unix.S_IFREG)
		size := 1 + g.IntN(64)
		if g.IntN(6) == 0 {
			size = 1 + g.IntN(5000)
		}
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(g.IntN(256))
		}
		n.Data, n.Size, n.Source = string(b), uint64(size), tree.SourceInline
		return n
	}
	n := g.meta(unix.S_IFREG)
	kind := g.IntN(8)
	if g.objectsOnly && kind > 0 {
		kind = 7
	}
	switch kind {
	case 0:
		return n // empty
	case 1:
		n.Source, n.Size, n.Data = tree.SourcePath, 1+g.Uint64N(1<<40), "some/where"
		return n
	case 2:
		n.Source, n.Size = tree.SourcePath, 1+g.Uint64N(1<<53-1)
		return n
	}
	n.Source, n.Size = tree.SourceObject, 1+g.Uint64N(1<<uint(1+g.IntN(33)))
	for i := range n.Digest {
		n.Digest[i] = byte(g.IntN(256))
	}
	if g.IntN(3) == 0 {
		n.Digest = verity.Digest{byte(g.IntN(3))}
	}
	return n
}
