// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/oci"
	"github.com/atomic-agent/atomic/install/store/storetest"
	"github.com/atomic-agent/atomic/internal/hint"
)

func newTxn(t testing.TB) *store.Txn {
	t.Helper()
	return storetest.Begin(t, storetest.Open(t, filepath.Join(t.TempDir(), "store")))
}

// put hands blobs to the destination as containers/image does.
func put(t testing.TB, txn *store.Txn, layers ...io.Reader) (*store.Image, error) {
	t.Helper()
	ref := oci.NewReference(txn, nil)
	dest, err := ref.NewImageDestination(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dest.Close() }() // always nil
	blob := func(r io.Reader, isConfig bool) (string, error) {
		info, err := dest.PutBlob(t.Context(), r, types.BlobInfo{Size: -1}, none.NoCache, isConfig)
		return fmt.Sprintf(`{"digest":%q,"size":%d}`, info.Digest, info.Size), err
	}
	config, err := blob(strings.NewReader("{}"), true)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, l := range layers {
		d, err := blob(l, false)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, config, strings.Join(list, ","))
	if err := dest.PutManifest(t.Context(), []byte(manifest), nil); err != nil {
		return nil, err
	}
	if err := dest.Commit(t.Context(), nil); err != nil {
		return nil, err
	}
	return ref.Image()
}

func node(name string, typ byte, link string) entry {
	return entry{tar.Header{Name: name, Typeflag: typ, Linkname: link, Mode: 0o755}, ""}
}

func device(name string, typ byte, major, minor int64) entry {
	return entry{tar.Header{Name: name, Typeflag: typ, Mode: 0o600, Devmajor: major, Devminor: minor}, ""}
}

func withXattr(e entry, name, value string) entry {
	e.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
	return e
}

func TestHostileLayers(t *testing.T) {
	long := strings.Repeat("n", 256)
	tests := []struct {
		name   string
		layers [][]entry
		want   string // in the error; empty: the image is fine
		has    map[string]string
		hasNot []string
	}{
		{name: "parent directory", layers: [][]entry{{file("../etc/passwd", "x")}}, want: `"../etc/passwd": ".." in the name`},
		{name: "parent inside", layers: [][]entry{{file("a/../b", "x")}}, want: `".." in the name`},
		{name: "absolute", layers: [][]entry{{file("/etc/a", "x")}}, has: map[string]string{"/etc/a": "x"}},
		{name: "dots and slashes", layers: [][]entry{{file("./a//./b", "x")}}, has: map[string]string{"/a/b": "x"}},
		{name: "through symlink", layers: [][]entry{{node("l", tar.TypeSymlink, "/etc"), file("l/passwd", "x")}}, want: "not a directory in the same layer"},
		{name: "through symlink of a lower layer", layers: [][]entry{
			{node("l", tar.TypeSymlink, "/etc"), file("etc/passwd", "good")}, {file("l/passwd", "x")},
		}, has: map[string]string{"/etc/passwd": "good", "/l/passwd": "x"}},
		{name: "through file", layers: [][]entry{{file("f", "x"), file("f/a", "x")}}, want: "not a directory in the same layer"},
		{name: "root is a file", layers: [][]entry{{node(".", tar.TypeFifo, "")}}, want: "the root must be a directory"},
		{name: "root is a symlink", layers: [][]entry{{node("./", tar.TypeSymlink, "/etc")}}, want: "the root must be a directory"},
		{name: "hard link outside", layers: [][]entry{{node("h", tar.TypeLink, "../../etc/passwd")}}, want: `hard link: ".." in the name`},
		{name: "hard link to nothing", layers: [][]entry{{node("h", tar.TypeLink, "etc/passwd")}}, want: "not in the image"},
		{name: "hard link to a directory", layers: [][]entry{{dir("d"), node("h", tar.TypeLink, "d")}}, want: "is a directory"},
		{name: "hard link to itself", layers: [][]entry{{node("h", tar.TypeLink, "/h")}}, want: "hard link to itself"},
		{name: "hard link to a symlink", layers: [][]entry{{file("f", "x"), node("s", tar.TypeSymlink, "f"), node("h", tar.TypeLink, "s")}}, has: map[string]string{"/h": "x"}},
		{name: "hard link to the root", layers: [][]entry{{node("h", tar.TypeLink, "/")}}, want: "is a directory"},
		{name: "duplicate", layers: [][]entry{{file("a", "1"), file("a", "2")}}, has: map[string]string{"/a": "2"}},
		{name: "file becomes directory", layers: [][]entry{{file("a", "1")}, {dir("a"), file("a/b", "2")}}, has: map[string]string{"/a/b": "2"}},
		{name: "directory becomes file", layers: [][]entry{{dir("a"), file("a/b", "2")}, {file("a", "1")}}, has: map[string]string{"/a": "1"}},
		{name: "whiteout of the own layer", layers: [][]entry{{file("a", "1"), file(".wh.a", "")}}, has: map[string]string{"/a": "1"}},
		{name: "opaque of the own layer", layers: [][]entry{
			{file("d/low", "1")}, {file("d/a", "1"), file("d/.wh..wh..opq", ""), file("d/b", "2")},
		}, has: map[string]string{"/d/a": "1", "/d/b": "2"}, hasNot: []string{"/d/low"}},
		{name: "whiteout of a parent", layers: [][]entry{{file("a", "1")}, {file("x/.wh...", "")}}, want: "whiteout of nothing"},
		{name: "whiteout of nothing", layers: [][]entry{{file(".wh.", "")}}, want: "whiteout of nothing"},
		{name: "whiteout of what is not there", layers: [][]entry{{file("x/.wh.a", "")}}, hasNot: []string{"/x"}},
		{name: "aufs bookkeeping", layers: [][]entry{{file(".wh..wh.plnk", "")}}, hasNot: []string{"/.wh..wh.plnk"}},
		{name: "whiteout device", layers: [][]entry{{device("w", tar.TypeChar, 0, 0)}}, want: "character device 0:0"},
		{name: "device", layers: [][]entry{{device("sda", tar.TypeBlock, 8, 0)}}},
		{name: "device out of range", layers: [][]entry{{device("d", tar.TypeChar, 1<<12, 0)}}, want: "out of range"},
		{name: "long name", layers: [][]entry{{file("d/"+long, "x")}}, want: "name of 256 bytes"},
		{name: "long path", layers: [][]entry{{dir(strings.Repeat("abc/", 1100))}}, want: "name of 4400 bytes"},
		{name: "deep path", layers: [][]entry{{dir(strings.Repeat("a/", 1500))}}, want: "directories deep"},
		{name: "long symlink", layers: [][]entry{{node("l", tar.TypeSymlink, strings.Repeat("t", 4096))}}, want: "symlink target of 4096 bytes"},
		{name: "empty symlink", layers: [][]entry{{node("l", tar.TypeSymlink, "")}}, want: "symlink target of 0 bytes"},
		{name: "not UTF-8", layers: [][]entry{{file("\xff\xfe\x01\n", "x")}}, has: map[string]string{"/\xff\xfe\x01\n": "x"}},
		{name: "many xattrs", layers: [][]entry{{withXattr(file("a", "x"), "user.a", strings.Repeat("v", 40<<10))}}, want: "bytes of xattrs"},
		{name: "long xattr name", layers: [][]entry{{withXattr(file("a", "x"), "user."+long, "v")}}, want: "xattr name of 261 bytes"},
		{name: "foreign xattrs", layers: [][]entry{{withXattr(file("a", "x"), "trusted.overlay.redirect", "/etc/shadow")}}, has: map[string]string{"/a": "x"}},
		{name: "unknown type", layers: [][]entry{{node("x", 'Z', "")}}, want: `unknown type 'Z'`},
		{name: "setuid is kept", layers: [][]entry{{{tar.Header{Name: "su", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 1}, "x"}}}, has: map[string]string{"/su": "x"}},
		{name: "dot file named like a whiteout device", layers: [][]entry{{file("ff", "x")}}, has: map[string]string{"/ff": "x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			txn := newTxn(t)
			var blobs []io.Reader
			for _, l := range tt.layers {
				blobs = append(blobs, bytes.NewReader(archive(t, l...)))
			}
			img, err := put(t, txn, blobs...)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("error %v, want it to say %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for path, want := range tt.has {
				if got, err := img.Tree.ReadFile(path, 100); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v, want %q", path, got, err, want)
				}
			}
			for _, path := range tt.hasNot {
				if img.Tree.Lookup(path) != nil {
					t.Errorf("%s is there", path)
				}
			}
			if _, err := txn.PutImage(img.Tree); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestXattrsAndModes(t *testing.T) {
	txn := newTxn(t)
	su := withXattr(file("su", "x"), "security.capability", "\x01\x00\x00\x02")
	su.Mode = 0o6755
	su.ModTime = time.Unix(1e9, 5)
	img, err := put(t, txn, bytes.NewReader(archive(t, su)))
	if err != nil {
		t.Fatal(err)
	}
	n := img.Tree.Lookup("/su")
	if v, ok := n.Xattr("security.capability"); !ok || v != "\x01\x00\x00\x02" {
		t.Errorf("security.capability is %q", v)
	}
	if n.Mode&0o7777 != 0o6755 || n.Sec != 1e9 || n.Nsec != 0 {
		t.Errorf("mode %o, time %d.%d", n.Mode, n.Sec, n.Nsec)
	}
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestHostileStreams(t *testing.T) {
	good := archive(t, file("a", strings.Repeat("content", 1000)), file("b", "x"))
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zst := enc.EncodeAll(good, nil)
	gz := gzipped(t, good)
	flipped := bytes.Clone(gz)
	flipped[len(flipped)-6] ^= 1
	tests := []struct {
		name string
		blob []byte
		want string
	}{
		{"plain", good, ""},
		{"gzip", gz, ""},
		{"zstd", zst, ""},
		{"data behind the end", append(bytes.Clone(good), "anything"...), ""},
		{"data behind gzip", append(bytes.Clone(gz), 0, 0, 0, 0), ""},
		{"empty", nil, "EOF"},
		{"no tar", bytes.Repeat([]byte("x"), 2000), "invalid tar header"},
		{"truncated tar", good[:3000], "unexpected EOF"},
		{"truncated gzip", gz[:len(gz)/2], "unexpected EOF"},
		{"truncated zstd", zst[:len(zst)/2], "unexpected EOF"},
		{"corrupt gzip", flipped, "gzip: invalid checksum"},
		{"bzip2", []byte("BZh91AY&SY"), "bzip2 or xz"},
		{"zstd window", zstdWindow(), "window size"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := put(t, newTxn(t), bytes.NewReader(tt.blob))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// zstdWindow is a frame header that asks for a window of 3.75 TiB.
func zstdWindow() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xfd2fb528)
	return append(b, 0x00, 0xff, 0x01, 0x00, 0x00)
}

// zeros yields n zero bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// hugeTar is an archive with one huge file, made while it is read.
func hugeTar(t testing.TB, size int64) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "huge", Typeflag: tar.TypeReg, Size: size, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	return io.MultiReader(&b, zeros(size), zeros(2048))
}

func TestTooBig(t *testing.T) {
	_, err := put(t, newTxn(t), hugeTar(t, oci.DefaultLimits.FileSize+1))
	var entry *oci.EntryError
	if !errors.As(err, &entry) || entry.Name != "huge" {
		t.Errorf("error %v", err)
	}
}

// TestHole imports a large file of zeros, which must not take their space.
func TestHole(t *testing.T) {
	const size = 1<<30 + 5
	txn := newTxn(t)
	img, err := put(t, txn, hugeTar(t, size))
	if err != nil {
		t.Fatal(err)
	}
	n := img.Tree.Lookup("/huge")
	f, err := txn.OpenObject(n.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	file, ok := f.(*os.File)
	if !ok {
		t.Fatalf("an object is a %T", f)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || st.Size != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes take %d, %v", st.Size, st.Blocks*512, err)
	}
}

// TestNoRoom imports a file that is larger than the file system has room for.
func TestNoRoom(t *testing.T) {
	lim := oci.DefaultLimits.FileSize
	var st unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * st.Bsize
	if free >= lim {
		t.Skipf("%d GiB are free", free>>30)
	}
	_, err := put(t, newTxn(t), hugeTar(t, lim))
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), `"huge"`) || !strings.Contains(hint.Of(err), "free some space") {
		t.Errorf("error %v (hint %q)", err, hint.Of(err))
	}
}

func FuzzLayer(f *testing.F) {
	f.Add(fuzzArchive(f), []byte{})
	f.Add(fuzzArchive(f), fuzzArchive(f))
	f.Add(gzipped(f, fuzzArchive(f)), []byte("x"))
	txn := newTxn(f)
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		img, err := put(t, txn, bytes.NewReader(lower), bytes.NewReader(upper))
		if err != nil {
			return
		}
		if _, err := txn.PutImage(img.Tree); err != nil {
			t.Errorf("accepted, but no image can be made of it: %v", err)
		}
	})
}

func fuzzArchive(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range []entry{
		dir("d"), file("d/f", strings.Repeat("f", 100)), node("h", tar.TypeLink, "d/f"), node("s", tar.TypeSymlink, "d"),
		file("d/.wh.x", ""), file("e/.wh..wh..opq", ""), device("n", tar.TypeChar, 1, 3), withXattr(file("x", "y"), "user.a", "b"),
	} {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
