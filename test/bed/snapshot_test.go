// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSnapshotDiff(t *testing.T) {
	was := Snapshot{"/etc/a": "file", "/etc/b": "file 1", "unit file x.service": "disabled enabled"}
	is := Snapshot{"/etc/b": "file 2", "/etc/c": "dir", "unit file x.service": "disabled enabled"}
	want := "- /etc/a: file\n- /etc/b: file 1\n+ /etc/b: file 2\n+ /etc/c: dir\n"
	if got := was.Diff(is); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := was.Diff(was); got != "" {
		t.Errorf("differs from itself:\n%s", got)
	}
}

func TestSnapshotLate(t *testing.T) {
	was := Snapshot{"/etc/a": "file", "/run/systemd/machines/old": "file 1"}
	for name, c := range map[string]struct {
		change map[string]string
		want   bool
	}{
		"equal":            {nil, false},
		"a machine":        {map[string]string{"/run/systemd/machines/new": "file", "/run/systemd/machines/unit:new": "link"}, true},
		"changed machine":  {map[string]string{"/run/systemd/machines/old": "file 2"}, false},
		"something beside": {map[string]string{"/run/systemd/machines/new": "file", "/run/new": "file"}, false},
		"something gone":   {map[string]string{"/run/systemd/machines/new": "file", "/etc/a": ""}, false},
	} {
		is := maps.Clone(was)
		maps.Copy(is, c.change)
		maps.DeleteFunc(is, func(_, text string) bool { return text == "" })
		if got := was.Late(is); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestSnapshotTree(t *testing.T) {
	root := t.TempDir()
	take := func() Snapshot {
		t.Helper()
		s := Snapshot{}
		for _, top := range []string{"/etc", "/run"} {
			if err := s.addTree(root, top); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	path := func(name string) string { return filepath.Join(root, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/conf", "one")
	write("run/keep", "one")
	write("run/udev/data/x", "one")
	before := take()
	if before["/etc/conf"] == "" || before["/run"] == "" {
		t.Fatalf("not seen: %v", before)
	}

	changes := []struct {
		name string
		do   func() error
		want string // part of the difference; empty if there must be none
	}{
		{"content of the same size", func() error { write("etc/conf", "two"); return nil }, "+ /etc/conf"},
		{"mode", func() error { return os.Chmod(path("run/keep"), 0o600) }, "+ /run/keep: file 0600"},
		{"type", func() error {
			return errors.Join(os.Remove(path("run/keep")), os.Symlink("target", path("run/keep")))
		}, "-> target"},
		{"new directory", func() error { return os.MkdirAll(path("etc/new/dir"), 0o750) }, "+ /etc/new/dir: dir 0750"},
		{"removal", func() error { return os.Remove(path("etc/conf")) }, "- /etc/conf"},
		{"volatile", func() error { write("run/udev/data/y", "two"); return nil }, ""},
	}
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			was := take()
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
			diff := was.Diff(take())
			if c.want == "" && diff != "" || !strings.Contains(diff, c.want) {
				t.Errorf("got\n%swant %q", diff, c.want)
			}
		})
	}
}
