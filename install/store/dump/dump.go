// SPDX-License-Identifier: Apache-2.0

// Package dump reads and writes the composefs dump format, composefs-dump(5):
// one line of text per file, with its metadata and where its content is.
//
// It is the format that upstream's tools take and give, so it is how our
// images are compared with theirs, and it is the body of a stored layer list.
// The parser is for untrusted input.
package dump

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// Limits of a line. They are those of upstream, or of Linux.
const (
	maxLine   = 1 << 20
	maxInline = 5000
	maxPath   = 4096
	maxXattr  = 65535
)

// Append appends the line for one item, with its newline. The path of the line
// is "/" and the item's Path.
func Append(b []byte, it *tree.Item) []byte {
	n := it.Node
	b = escape(append(b, '/'), it.Path, escapeText)
	if it.HardLink {
		// Everything but the payload is ignored for a hard link.
		b = append(b, " 0 @100644 1 0 0 0 0.0 /"...)
		b = escape(b, it.Link, escapeText)
		return append(b, " - -\n"...)
	}
	if n == nil { // a whiteout
		return append(b, " 0 100000 1 0 0 0 0.0 - - -\n"...)
	}
	size := n.Size
	if n.IsSymlink() {
		size = uint64(len(n.Data))
	}
	b = append(b, ' ')
	b = strconv.AppendUint(b, size, 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(n.Mode), 8)
	for _, v := range [...]uint32{n.Nlink, n.UID, n.GID, n.Rdev} {
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, n.Sec, 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(n.Nsec), 10)
	b = appendSource(b, n)
	for _, x := range n.Xattrs {
		b = escape(append(b, ' '), x.Name, escapeXattr)
		b = escape(append(b, '='), x.Value, escapeXattr)
	}
	return append(b, '\n')
}

// appendSource appends the fields PAYLOAD, CONTENT and DIGEST.
func appendSource(b []byte, n *tree.Node) []byte {
	payload, content, digest := "-", "-", "-"
	switch {
	case n.IsSymlink():
		payload = optional(n.Data)
	case n.Source == tree.SourceInline:
		content = optional(n.Data)
	case n.Source == tree.SourceObject:
		payload, digest = n.Digest.Path(), n.Digest.String()
	case n.Source == tree.SourcePath:
		if n.Data != "" {
			payload = optional(n.Data)
		}
		if n.HasDigest {
			digest = n.Digest.String()
		}
	}
	b = append(append(b, ' '), payload...)
	b = append(append(b, ' '), content...)
	return append(append(b, ' '), digest...)
}

func optional(s string) string {
	if s == "-" {
		return `\x2d`
	}
	return string(escape(nil, s, escapeText))
}

const (
	escapeText = iota
	escapeXattr
)

func escape(b []byte, s string, how int) []byte {
	const hexDigits = "0123456789abcdef"
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c <= ' ' || c >= 0x7f || c == '=' && how == escapeXattr:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

func unescape(s string) (string, error) {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s, nil
	}
	b := []byte(s[:i])
	for ; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if i++; i == len(s) {
			return "", errors.New("backslash at the end of a field")
		}
		switch s[i] {
		case '\\':
			b = append(b, '\\')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'x':
			if i+2 >= len(s) {
				return "", errors.New(`short \x escape`)
			}
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf(`bad \x escape %q`, s[i+1:i+3])
			}
			b = append(b, byte(v))
			i += 2
		default:
			return "", fmt.Errorf("unknown escape \\%c", s[i])
		}
	}
	return string(b), nil
}

// Write writes t, parents first and names in byte order. The first name of a
// file with hard links has its metadata, the others refer to it.
func Write(w io.Writer, t *tree.Tree) error {
	bw := bufio.NewWriterSize(w, 64<<10)
	first := map[*tree.Node]string{}
	var line []byte
	err := t.Walk("/", func(p string, n *tree.Node) error {
		it := tree.Item{Path: p[1:], Node: n}
		if n.Linked {
			if target, seen := first[n]; seen {
				it.Link, it.HardLink = target, true
			} else {
				first[n] = it.Path
			}
		}
		line = Append(line[:0], &it)
		_, err := bw.Write(line)
		return err
	})
	if err == nil {
		err = bw.Flush()
	}
	if err != nil {
		return fmt.Errorf("write dump: %w", err)
	}
	return nil
}

// Lines calls fn for each line of r, in order.
func Lines(r io.Reader, fn func(*tree.Item) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; s.Scan(); n++ {
		it, err := Parse(s.Text())
		if err == nil {
			err = fn(it)
		}
		if err != nil {
			return fmt.Errorf("dump line %d: %w", n, err)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read dump: %w", err)
	}
	return nil
}

// Read reads a whole tree. Unlike a layer, a dump has every parent before its
// children, no name twice, and hard links to files of its own only; the links
// may come before the files.
func Read(r io.Reader) (*tree.Tree, error) {
	t := &tree.Tree{}
	var links []*tree.Item
	err := Lines(r, func(it *tree.Item) error {
		if it.Path == "" {
			if t.Root != nil {
				return errors.New("a second root")
			}
			if it.Node == nil || !it.Node.IsDir() {
				return errors.New("the root is not a directory")
			}
			t.Root = it.Node
			return nil
		}
		if t.Root == nil {
			return errors.New("the root is not the first line")
		}
		if it.HardLink {
			// Hold the place, so that the name cannot be taken twice.
			it.Node = &tree.Node{}
			links = append(links, it)
		}
		dir, name := path.Split(it.Path)
		parent := t.Lookup(dir)
		if parent == nil || !parent.IsDir() {
			return fmt.Errorf("%q has no parent directory", it.Path)
		}
		if parent.Child(name) != nil {
			return fmt.Errorf("%q is there twice", it.Path)
		}
		parent.SetChild(name, it.Node)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if t.Root == nil {
		return nil, errors.New("read dump: no root")
	}
	for _, it := range links {
		target := t.Lookup(it.Link)
		if target == nil || target.Mode == 0 || target.IsDir() {
			return nil, fmt.Errorf("read dump: hard link %q to %q, which is no file", it.Path, it.Link)
		}
		target.Linked = true
		dir, name := path.Split(it.Path)
		t.Lookup(dir).SetChild(name, target)
	}
	return t, nil
}

// Parse reads one line, without its newline.
func Parse(line string) (*tree.Item, error) {
	if strings.IndexByte(line, 0) >= 0 {
		return nil, errors.New("NUL byte")
	}
	f := strings.Split(line, " ")
	if len(f) < 11 {
		return nil, fmt.Errorf("%d fields, at least 11 wanted", len(f))
	}
	p, err := parsePath(f[0])
	if err != nil {
		return nil, err
	}
	if mode, ok := strings.CutPrefix(f[2], "@"); ok {
		if _, err := strconv.ParseUint(mode, 8, 16); err != nil {
			return nil, fmt.Errorf("mode: %w", err)
		}
		link, err := parsePath(f[8])
		if err != nil {
			return nil, fmt.Errorf("hard link target: %w", err)
		}
		return &tree.Item{Path: p, Link: link, HardLink: true}, nil
	}
	n, err := parseNode(f)
	if err != nil {
		return nil, err
	}
	return &tree.Item{Path: p, Node: n}, nil
}

func parsePath(field string) (string, error) {
	s, err := unescape(field)
	switch {
	case err != nil:
		return "", err
	case !strings.HasPrefix(s, "/"):
		return "", fmt.Errorf("path %q is not absolute", s)
	case len(s) > maxPath || strings.IndexByte(s, 0) >= 0 || path.Clean(s) != s:
		return "", fmt.Errorf("path %q is not clean", s)
	}
	for name := range strings.SplitSeq(s, "/") {
		if len(name) > unix.NAME_MAX {
			return "", fmt.Errorf("path %q: name longer than %d bytes", s, unix.NAME_MAX)
		}
	}
	return s[1:], nil
}

func parseNode(f []string) (*tree.Node, error) {
	n := &tree.Node{}
	size, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("size: %w", err)
	}
	mode, err := strconv.ParseUint(f[2], 8, 16)
	if err != nil {
		return nil, fmt.Errorf("mode: %w", err)
	}
	n.Mode = uint32(mode)
	for i, p := range []*uint32{&n.Nlink, &n.UID, &n.GID, &n.Rdev} {
		v, err := strconv.ParseUint(f[3+i], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("field %d: %w", 4+i, err)
		}
		*p = uint32(v)
	}
	sec, nsec, _ := strings.Cut(f[7], ".")
	if n.Sec, err = strconv.ParseInt(sec, 10, 64); err != nil {
		return nil, fmt.Errorf("mtime: %w", err)
	}
	ns, err := strconv.ParseUint(nsec, 10, 32)
	if err != nil || ns >= 1e9 {
		return nil, fmt.Errorf("mtime %q: bad nanoseconds", f[7])
	}
	n.Nsec = uint32(ns)
	if err := parseSource(n, size, f[8], f[9], f[10]); err != nil {
		return nil, err
	}
	return n, parseXattrs(n, f[11:])
}

// parseSource reads PAYLOAD, CONTENT and DIGEST according to the file type.
func parseSource(n *tree.Node, size uint64, payloadField, contentField, digestField string) error {
	payload, err := unescapeOptional(payloadField)
	if err != nil {
		return err
	}
	content, err := unescapeOptional(contentField)
	if err != nil {
		return err
	}
	switch n.Type() {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		if payload == "" || len(payload) >= maxPath || strings.IndexByte(payload, 0) >= 0 {
			return errors.New("symlink without a usable target")
		}
		n.Data, n.Size, n.Rdev = payload, uint64(len(payload)), 0
		return nil
	case unix.S_IFCHR, unix.S_IFBLK:
		return nil
	case unix.S_IFDIR, unix.S_IFIFO, unix.S_IFSOCK:
		n.Rdev = 0
		return nil
	default:
		return fmt.Errorf("unknown file type in mode %o", n.Mode)
	}
	n.Size, n.Rdev = size, 0
	if contentField != "-" {
		if uint64(len(content)) != size || size > maxInline {
			return fmt.Errorf("%d bytes of content, size %d", len(content), size)
		}
		if size > 0 {
			n.Source, n.Data = tree.SourceInline, content
		}
		return nil
	}
	if size == 0 {
		return nil
	}
	n.Source, n.Data = tree.SourcePath, payload
	if digestField != "-" {
		if n.Digest, err = verity.Parse(digestField); err != nil {
			return err
		}
		n.HasDigest = true
		if payload == n.Digest.Path() {
			n.Source, n.Data, n.HasDigest = tree.SourceObject, "", false
		}
	}
	if len(n.Data) >= maxPath || strings.IndexByte(n.Data, 0) >= 0 {
		return errors.New("unusable payload")
	}
	return nil
}

func unescapeOptional(s string) (string, error) {
	if s == "-" {
		return "", nil
	}
	return unescape(s)
}

func parseXattrs(n *tree.Node, fields []string) error {
	total := 0
	for _, f := range fields {
		if f == "" {
			continue
		}
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			return fmt.Errorf("xattr %q without =", f)
		}
		name, err := unescape(k)
		if err != nil {
			return err
		}
		value, err := unescape(v)
		if err != nil {
			return err
		}
		total += len(name) + len(value) + 8
		if name == "" || len(name) > unix.NAME_MAX || strings.IndexByte(name, 0) >= 0 || total > maxXattr {
			return fmt.Errorf("unusable xattr %q", name)
		}
		n.SetXattr(name, value)
	}
	return nil
}
