// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// xattrs reads the attributes of n and undoes what newInode did to them.
func (r *reader) xattrs(n *tree.Node, raw *rawInode, area uint64) error {
	if area == 0 {
		return nil
	}
	b, err := r.at(raw.end, area)
	if err != nil {
		return err
	}
	shared := int(b[4])
	rest := b[xattrHeaderSize:]
	if len(rest) < 4*shared {
		return fmt.Errorf("%d shared xattrs in %d bytes", shared, len(rest))
	}
	for i := range shared {
		at := r.xattrBase + uint64(le.Uint32(rest[4*i:]))*4
		if at > uint64(len(r.img)) {
			return fmt.Errorf("shared xattr at %d", at)
		}
		if _, err := r.xattr(n, r.img[at:]); err != nil {
			return err
		}
	}
	for rest = rest[4*shared:]; len(rest) >= xattrEntrySize; {
		size, err := r.xattr(n, rest)
		if err != nil {
			return err
		}
		rest = rest[min(len(rest), size):]
	}
	dropMarks(n)
	return nil
}

// dropMarks removes the marks of whiteouts that Write makes again.
func dropMarks(n *tree.Node) {
	if n.IsWhiteoutDevice() {
		n.RemoveXattr(overlayPrefix + whiteoutName)
		n.RemoveXattr(overlayUser + whiteoutName)
	}
	for _, c := range n.Children {
		if c.Node.IsWhiteoutDevice() {
			n.RemoveXattr(overlayPrefix + whiteoutsName)
			n.RemoveXattr(overlayUser + whiteoutsName)
			return
		}
	}
}

// xattr reads one entry and returns its size.
func (r *reader) xattr(n *tree.Node, b []byte) (int, error) {
	if len(b) < xattrEntrySize {
		return 0, fmt.Errorf("xattr of %d bytes", len(b))
	}
	nameLen, index, valueLen := int(b[0]), b[1], int(le.Uint16(b[2:]))
	end := xattrEntrySize + nameLen + valueLen
	if end > len(b) {
		return 0, fmt.Errorf("xattr of %d bytes, %d are left", end, len(b))
	}
	name := string(b[xattrEntrySize : xattrEntrySize+nameLen])
	value := string(b[xattrEntrySize+nameLen : end])
	if index != 0 {
		known := false
		for _, p := range xattrPrefixes {
			if p.index == index {
				name, known = p.prefix+name, true
			}
		}
		if !known {
			return 0, fmt.Errorf("xattr name index %d", index)
		}
	}
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return 0, fmt.Errorf("xattr name %q", name)
	}
	return int(roundUp(uint64(end), 4)), restoreXattr(n, name, value)
}

func restoreXattr(n *tree.Node, name, value string) error {
	switch name {
	case overlayRedir:
		if n.Source != tree.SourcePath {
			return nil
		}
		n.Data = strings.TrimPrefix(value, "/")
		if len(n.Data) >= unix.PathMax || strings.IndexByte(n.Data, 0) >= 0 {
			return fmt.Errorf("redirect %q", n.Data)
		}
		return foldObject(n)
	case overlayMeta:
		if n.Source != tree.SourcePath || value == "" {
			return nil
		}
		if len(value) != metacopyLen || value[1] != metacopyLen || value[3] != metacopySHA256 {
			return fmt.Errorf("metacopy attribute %x", value)
		}
		n.Digest, n.HasDigest = verity.Digest([]byte(value[4:])), true
		return foldObject(n)
	case overlayEscape + whiteoutName:
		if n.IsRegular() && n.Size == 0 {
			n.Mode = unix.S_IFCHR | n.Mode&^uint32(unix.S_IFMT)
		}
	}
	if rest, ok := strings.CutPrefix(name, overlayEscape); ok {
		name = overlayPrefix + rest
	} else if strings.HasPrefix(name, overlayPrefix) {
		return nil // the image's own, such as the root's opaque mark
	}
	n.SetXattr(name, value)
	return nil
}

// foldObject makes a backing file that is an object of the store one.
func foldObject(n *tree.Node) error {
	if n.HasDigest && n.Data == n.Digest.Path() {
		n.Source, n.Data, n.HasDigest = tree.SourceObject, "", false
	}
	return nil
}
