// SPDX-License-Identifier: Apache-2.0

package store

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// Usage says where the disk space of the store goes. Bytes are content, not
// disk blocks.
type Usage struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Free is what is left on the file system.
	Free int64      `json:"free"`
	Refs []RefUsage `json:"refs"`
}

// RefUsage is the share of one installed image.
type RefUsage struct {
	Ref
	Files int `json:"files"`
	// Bytes is the size of its different files, Own the part of it that no
	// other installed image has.
	Bytes int64 `json:"bytes"`
	Own   int64 `json:"own"`
}

// Usage measures the store.
func (s *Store) Usage(ctx context.Context) (*Usage, error) {
	lock, err := s.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	u := &Usage{}
	err = s.eachObject(func(_ verity.Digest, e fs.DirEntry) error {
		if info, err := e.Info(); err == nil {
			u.Objects++
			u.Bytes += info.Size()
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("measure store: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return nil, fmt.Errorf("measure store: %w", err)
	}
	u.Free = int64(st.Bavail) * st.Bsize
	return u, s.refUsage(u)
}

func (s *Store) refUsage(u *Usage) error {
	refs, err := s.Refs()
	if err != nil {
		return err
	}
	users := map[verity.Digest]int{}
	var sets []map[verity.Digest]int64
	for _, r := range refs {
		set := map[verity.Digest]int64{}
		if err := s.eachImageObject(r.Image, func(n *tree.Node) { set[n.Digest] = int64(n.Size) }); err != nil {
			return fmt.Errorf("measure %s.%d: %w", r.Name, r.Generation, s.explain(err))
		}
		for d := range set {
			users[d]++
		}
		sets = append(sets, set)
	}
	for i, r := range refs {
		ru := RefUsage{Ref: r, Files: len(sets[i])}
		for d, size := range sets[i] {
			ru.Bytes += size
			if users[d] == 1 {
				ru.Own += size
			}
		}
		u.Refs = append(u.Refs, ru)
	}
	return nil
}

// Export writes a file system image as a tar archive, with every content
// checked on the way. The archive depends on the image only.
func (s *Store) Export(ctx context.Context, image string, w io.Writer) error {
	lock, err := s.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer lock.Close()
	t, err := s.readTree(image)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	e := &exporter{s: s, w: tar.NewWriter(w), first: map[*tree.Node]string{}}
	err = t.Walk("/", func(path string, n *tree.Node) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return e.entry(path, n)
	})
	if err == nil {
		err = e.w.Close()
	}
	if err != nil {
		return fmt.Errorf("export: %w", s.explain(err))
	}
	return nil
}

type exporter struct {
	s     *Store
	w     *tar.Writer
	first map[*tree.Node]string
}

func (e *exporter) entry(path string, n *tree.Node) error {
	h := &tar.Header{
		Name: "." + path, Mode: int64(n.Mode & 0o7777), Uid: int(n.UID), Gid: int(n.GID),
		ModTime: time.Unix(n.Sec, int64(n.Nsec)), Format: tar.FormatPAX,
	}
	for _, x := range n.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+x.Name] = x.Value
	}
	if first, ok := e.first[n]; ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return e.w.WriteHeader(h)
	}
	if n.Linked {
		e.first[n] = h.Name
	}
	switch n.Type() {
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Data
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFSOCK:
		return nil // tar has no sockets
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if n.Type() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(uint64(n.Rdev))), int64(unix.Minor(uint64(n.Rdev)))
	default:
		h.Typeflag, h.Size = tar.TypeReg, int64(n.Size)
		if err := e.w.WriteHeader(h); err != nil {
			return err
		}
		return e.content(path, n)
	}
	return e.w.WriteHeader(h)
}

func (e *exporter) content(path string, n *tree.Node) error {
	switch n.Source {
	case tree.SourceNone:
		return nil
	case tree.SourceInline:
		_, err := io.WriteString(e.w, n.Data)
		return err
	case tree.SourceObject:
	case tree.SourcePath:
		return fmt.Errorf("%s: content is not in the store", path)
	}
	f, err := e.s.openObject(n.Digest)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	got, _, err := verity.OfReader(io.TeeReader(f, e.w))
	if err == nil && got != n.Digest {
		err = ErrCorrupt
	}
	if err != nil {
		return fmt.Errorf("%s: object %s: %w", path, n.Digest, err)
	}
	return nil
}
