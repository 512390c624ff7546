// SPDX-License-Identifier: Apache-2.0

package tree_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

func inline(s string) *tree.Node {
	return &tree.Node{Mode: unix.S_IFREG | 0o644, Data: s, Size: uint64(len(s)), Source: tree.SourceInline}
}

func symlink(target string) *tree.Node {
	return &tree.Node{Mode: unix.S_IFLNK | 0o777, Data: target, Size: uint64(len(target))}
}

// example is a tree with links in every direction.
func example(t *testing.T) *tree.Tree {
	t.Helper()
	tr := tree.New()
	tr.Root.Sec = 7
	err := tr.Apply([]tree.Item{
		{Path: "usr/lib/os-release", Node: inline("os")},
		{Path: "etc/os-release", Node: symlink("../usr/lib/os-release")},
		{Path: "var/run", Node: symlink("/run")},
		{Path: "loop", Node: symlink("loop")},
		{Path: "out", Node: symlink("../../../etc/os-release")},
		{Path: "dangling", Node: symlink("/nowhere/at/all")},
		{Path: "run", Node: &tree.Node{Mode: unix.S_IFDIR | 0o755, Sec: 9}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestReadFile(t *testing.T) {
	object := bytes.Repeat([]byte("o"), 100)
	tr := example(t)
	file := &tree.Node{Mode: unix.S_IFREG | 0o644, Size: 100, Source: tree.SourceObject, Digest: verity.Of(object)}
	tr.Root.SetChild("object", file)
	content := object
	tr.OpenObject = func(d verity.Digest) (io.ReadCloser, error) {
		if d != file.Digest {
			return nil, fs.ErrNotExist
		}
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	tests := []struct {
		path, want string
		err        error
		text       string
	}{
		{path: "/usr/lib/os-release", want: "os"},
		{path: "usr//lib/./os-release", want: "os"},
		{path: "/etc/os-release", want: "os"},
		{path: "/out", want: "os"},
		{path: "/../../etc/os-release", want: "os"},
		{path: "/object", want: string(object)},
		{path: "/none", err: fs.ErrNotExist},
		{path: "/dangling", err: fs.ErrNotExist},
		{path: "/loop", err: unix.ELOOP},
		{path: "/usr/lib/os-release/x", err: unix.ENOTDIR},
		{path: "/usr", text: "not a regular file"},
	}
	for _, tt := range tests {
		got, err := tr.ReadFile(tt.path, 100)
		switch {
		case tt.err != nil:
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: error %v, want %v", tt.path, err, tt.err)
			}
		case tt.text != "":
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s: error %v, want %q", tt.path, err, tt.text)
			}
		case err != nil || string(got) != tt.want:
			t.Errorf("%s: %q, %v, want %q", tt.path, got, err, tt.want)
		}
	}
	if _, err := tr.ReadFile("/object", 99); !errors.Is(err, tree.ErrTooBig) {
		t.Errorf("over the limit: %v", err)
	}
	content = bytes.Repeat([]byte("x"), 100)
	if _, err := tr.ReadFile("/object", 100); err == nil {
		t.Error("changed content was not noticed")
	}
}

func TestWalk(t *testing.T) {
	tr := example(t)
	var got []string
	err := tr.Walk("/usr", func(path string, _ *tree.Node) error {
		got = append(got, path)
		return nil
	})
	if want := []string{"/usr", "/usr/lib", "/usr/lib/os-release"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	got = nil
	err = tr.Walk("/", func(path string, n *tree.Node) error {
		got = append(got, path)
		if path != "/" && n.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if want := "/ /dangling /etc /loop /out /run /usr /var"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%q, %v, want %s", got, err, want)
	}
	if err := tr.Walk("/none", func(string, *tree.Node) error { return errors.New("called") }); err != nil {
		t.Errorf("walk nothing: %v", err)
	}
}

func TestAddMountPoint(t *testing.T) {
	tests := []struct {
		path string
		dir  bool
		at   string // where it must be then
		err  string
	}{
		{"/proc", true, "/proc", ""},
		{"/run", true, "/run", ""},
		{"/var/run/app/state", true, "/run/app/state", ""},
		{"/etc/resolv.conf", false, "/etc/resolv.conf", ""},
		{"/dangling", true, "/nowhere/at/all", ""},
		{"/etc/os-release", false, "/usr/lib/os-release", ""},
		{"/etc/os-release", true, "", "not a directory"},
		{"/usr", false, "", "is a directory"},
		{"/usr/lib/os-release/x", true, "", "not a directory"},
		{"/loop/x", true, "", "too many levels of symbolic links"},
	}
	for _, tt := range tests {
		tr := example(t)
		err := tr.AddMountPoint(tt.path, tt.dir)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want %q", tt.path, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		n := tr.Lookup(tt.at)
		if n == nil || n.IsDir() != tt.dir {
			t.Errorf("%s: no mount point at %s", tt.path, tt.at)
		}
	}
}

// TestMountPointTimes checks that new directories are as old as their parent,
// which makes the image independent of the time it is made at.
func TestMountPointTimes(t *testing.T) {
	tr := example(t)
	for path, want := range map[string]int64{"/proc/sys": 7, "/run/a/b": 9} {
		if err := tr.AddMountPoint(path, true); err != nil {
			t.Fatal(err)
		}
		if n := tr.Lookup(path); n.Sec != want || n.Mode != unix.S_IFDIR|0o755 || n.UID != 0 || n.GID != 0 {
			t.Errorf("%s: %+v", path, n)
		}
	}
}

// TestApplyAgain checks that a layer is not changed by what happens to a tree
// that it was applied to.
func TestApplyAgain(t *testing.T) {
	layer := []tree.Item{
		{Path: "d", Node: &tree.Node{Mode: unix.S_IFDIR | 0o700}},
		{Path: "d/a", Node: inline("a")},
		{Path: "h", Link: "d/a", HardLink: true},
	}
	names := func(tr *tree.Tree) string {
		var list []string
		_ = tr.Walk("/", func(path string, _ *tree.Node) error {
			list = append(list, path)
			return nil
		})
		return strings.Join(list, " ")
	}
	first := tree.New()
	if err := first.Apply(layer); err != nil {
		t.Fatal(err)
	}
	want := names(first)
	if err := first.AddMountPoint("/d/mnt", true); err != nil {
		t.Fatal(err)
	}
	second := tree.New()
	if err := second.Apply(layer); err != nil {
		t.Fatal(err)
	}
	if got := names(second); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	second.CountLinks()
	if n := second.Lookup("/h"); n != second.Lookup("/d/a") || n.Nlink != 2 || !n.Linked {
		t.Errorf("hard link: %+v", n)
	}
}
