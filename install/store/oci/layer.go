// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/inflate"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/internal/hint"
)

// Limits are how much an untrusted image may ask for.
type Limits struct {
	// Entries is the number of entries of one layer.
	Entries int
	// FileSize is the size of one file, TotalSize that of one layer unpacked.
	FileSize, TotalSize int64
	// Xattrs is the size of the extended attributes of one file, in bytes.
	Xattrs int
}

// DefaultLimits are far above what is in use and below what would hurt.
var DefaultLimits = Limits{
	Entries:   1 << 20,
	FileSize:  64 << 30,
	TotalSize: 128 << 30,
	Xattrs:    32 << 10,
}

// EntryError says which entry of a layer cannot be accepted, and why.
type EntryError struct {
	Name string
	Err  error
}

func (e *EntryError) Error() string { return fmt.Sprintf("layer entry %q: %v", e.Name, e.Err) }

// Unwrap returns the reason.
func (e *EntryError) Unwrap() error { return e.Err }

// readLayer reads a layer blob, compressed or not, hands the content of files
// to sink, and returns the entries. It reads r to its end, so that whoever
// checks its digest can.
func readLayer(ctx context.Context, r io.Reader, sink contentSink, lim Limits, charge func(*tree.Item) error) ([]tree.Item, error) {
	ahead := readAhead(r)
	defer ahead.stop()
	br := bufio.NewReaderSize(ahead, chunk)
	stream, closeStream, err := decompress(br)
	if err != nil {
		return nil, err
	}
	defer closeStream()
	p := &parser{tr: tar.NewReader(stream), sink: sink, lim: lim, charge: charge}
	items, err := p.run(ctx)
	if werr := sink.wait(); werr != nil && (err == nil || errors.Is(err, errSink)) {
		err = werr
	}
	if err != nil {
		return nil, err
	}
	// Behind the archive's end there is padding, and the checksum of the
	// compression. What else there may be is part of the blob and of its
	// digest, but of nothing else.
	if _, err := io.CopyN(io.Discard, stream, paddingMax); errors.Is(err, inflate.ErrChecksum) || errors.Is(err, zstd.ErrCRCMismatch) {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	if _, err := io.Copy(io.Discard, br); err != nil {
		return nil, fmt.Errorf("read layer: %w", err)
	}
	return items, nil
}

const paddingMax = 1 << 20

// decompress looks at the first bytes: media types are not always right.
func decompress(br *bufio.Reader) (io.Reader, func(), error) {
	magic, err := br.Peek(4)
	if err != nil && len(magic) == 0 {
		return nil, nil, fmt.Errorf("read layer: %w", err)
	}
	switch m := string(magic); {
	case strings.HasPrefix(m, "\x1f\x8b"):
		z, err := inflate.NewReader(br)
		if err != nil {
			return nil, nil, fmt.Errorf("read layer: %w", err)
		}
		return z, func() {}, nil
	case m == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, nil, fmt.Errorf("read layer: zstd: %w", err)
		}
		return z, z.Close, nil
	case strings.HasPrefix(m, "BZh") || strings.HasPrefix(m, "\xfd7zX"):
		return nil, nil, hint.New(errors.New("read layer: compressed with bzip2 or xz"),
			"OCI layers are gzip, zstd or plain tar: build the image again with one of those")
	}
	return br, func() {}, nil
}

// parser turns a tar archive into layer entries.
type parser struct {
	tr   *tar.Reader
	sink contentSink
	lim  Limits
	// charge is told of every entry, and says when there are too many.
	charge func(*tree.Item) error
	items  []tree.Item
	total  int64
}

func (p *parser) run(ctx context.Context) ([]tree.Item, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		h, err := p.tr.Next()
		if errors.Is(err, io.EOF) {
			return p.items, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read layer: %w", err)
		}
		if err := p.entry(h); err != nil {
			if errors.Is(err, errSink) || errors.Is(err, errRead) {
				return nil, err
			}
			return nil, &EntryError{h.Name, err}
		}
	}
}

// errRead marks an error of the stream, not of an entry.
var errRead = errors.New("read layer")

func (p *parser) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if len(p.items) >= p.lim.Entries {
		return fmt.Errorf("more than %d entries", p.lim.Entries)
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	it := tree.Item{Path: name}
	if _, what, opaque, ok := it.Whiteout(); ok {
		if what == "" && !opaque || what == "." || what == ".." {
			return errors.New("whiteout of nothing")
		}
		if strings.HasPrefix(what, ".wh.") {
			return nil // AUFS bookkeeping, as in .wh..wh.plnk
		}
		return p.add(it)
	}
	switch h.Typeflag {
	case tar.TypeLink:
		it.HardLink = true
		if it.Link, err = cleanName(h.Linkname); err != nil {
			return fmt.Errorf("hard link: %w", err)
		}
		if it.Link == name {
			return errors.New("hard link to itself")
		}
	default:
		if it.Node, err = p.node(h); err != nil {
			return err
		}
	}
	return p.add(it)
}

func (p *parser) add(it tree.Item) error {
	p.items = append(p.items, it)
	return p.charge(&it)
}

// cleanName returns the name relative to the root: absolute names and "./" are
// spellings of it. ".." is refused even where it would stay inside.
func cleanName(name string) (string, error) {
	switch {
	case strings.IndexByte(name, 0) >= 0:
		return "", errors.New("NUL byte in the name")
	case len(name) > unix.PathMax:
		return "", fmt.Errorf("name of %d bytes", len(name))
	}
	for n := range strings.SplitSeq(name, "/") {
		if n == ".." {
			return "", errors.New(`".." in the name`)
		}
		if len(n) > unix.NAME_MAX {
			return "", fmt.Errorf("name of %d bytes, at most %d allowed", len(n), unix.NAME_MAX)
		}
	}
	c := path.Clean("/" + name)
	if strings.Count(c, "/") > maxDepth {
		return "", fmt.Errorf("more than %d directories deep", maxDepth)
	}
	return c[1:], nil
}

// maxDepth bounds recursion over a tree.
const maxDepth = 1024

func (p *parser) node(h *tar.Header) (*tree.Node, error) {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= 1<<32-1 || int64(h.Gid) >= 1<<32-1 {
		return nil, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	n := &tree.Node{
		Mode: uint32(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid),
		// Whole seconds: what is below depends on the tool that made the layer.
		Sec: h.ModTime.Unix(), Nlink: 1,
	}
	if err := p.xattrs(n, h); err != nil {
		return nil, err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		n.Mode |= unix.S_IFDIR
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= unix.PathMax || strings.IndexByte(h.Linkname, 0) >= 0 {
			return nil, fmt.Errorf("symlink target of %d bytes", len(h.Linkname))
		}
		n.Mode = unix.S_IFLNK | 0o777
		n.Data, n.Size = h.Linkname, uint64(len(h.Linkname))
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont, '\x00':
		n.Mode |= unix.S_IFREG
		return n, p.content(n, h)
	case tar.TypeFifo:
		n.Mode |= unix.S_IFIFO
	case tar.TypeChar, tar.TypeBlock:
		return n, device(n, h)
	default:
		return nil, fmt.Errorf("unknown type %q", h.Typeflag)
	}
	return n, nil
}

// device keeps device nodes in the image: the mount has nodev, so they open
// nothing. Only 0:0 has a meaning of its own, to overlayfs.
func device(n *tree.Node, h *tar.Header) error {
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return fmt.Errorf("device %d:%d is out of range", h.Devmajor, h.Devminor)
	}
	n.Mode |= unix.S_IFCHR
	if h.Typeflag == tar.TypeBlock {
		n.Mode = n.Mode&0o7777 | unix.S_IFBLK
	}
	n.Rdev = tree.Makedev(uint32(h.Devmajor), uint32(h.Devminor))
	if n.IsWhiteoutDevice() {
		return errors.New("character device 0:0: it is an overlayfs whiteout, not a file of an OCI layer")
	}
	return nil
}

const paxXattr = "SCHILY.xattr."

// xattrs keeps what belongs to a file wherever it is: capabilities and user
// attributes. Labels and overlayfs marks belong to the host that wrote them.
func (p *parser) xattrs(n *tree.Node, h *tar.Header) error {
	total := 0
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if !ok || name != "security.capability" && !strings.HasPrefix(name, "user.") ||
			strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if len(name) > unix.NAME_MAX || strings.IndexByte(name, 0) >= 0 || name == "user." {
			return fmt.Errorf("xattr name of %d bytes", len(name))
		}
		if total += len(name) + len(v) + 8; total > p.lim.Xattrs {
			return fmt.Errorf("more than %d bytes of xattrs", p.lim.Xattrs)
		}
		n.SetXattr(name, v)
	}
	return nil
}

// content hands the content of a regular file on.
func (p *parser) content(n *tree.Node, h *tar.Header) error {
	if h.Size < 0 || h.Size > p.lim.FileSize {
		return fmt.Errorf("%d bytes, at most %d allowed", h.Size, p.lim.FileSize)
	}
	if p.total += h.Size; p.total > p.lim.TotalSize {
		return fmt.Errorf("the layer has more than %d bytes unpacked", p.lim.TotalSize)
	}
	n.Size = uint64(h.Size)
	switch {
	case h.Size == 0:
		return nil
	case h.Size <= tree.InlineMax:
		b := make([]byte, h.Size)
		if _, err := io.ReadFull(p.tr, b); err != nil {
			return fmt.Errorf("%w: %w", errRead, noEOF(err))
		}
		n.Data, n.Source = string(b), tree.SourceInline
		return nil
	}
	n.Source = tree.SourceObject
	return p.sink.put(n, p.tr)
}

// noEOF makes the end of the stream inside a file the error it is.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
