// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/storetest"
	"github.com/atomic-agent/atomic/internal/hint"
)

func TestFindAndDiff(t *testing.T) {
	s := storetest.Open(t, filepath.Join(t.TempDir(), "store"))
	for name, last := range map[string]int{"a:latest": 10, "b:2": 11} {
		txn := storetest.Begin(t, s)
		manifest, _, err := putImage(txn, 1, last)
		if err != nil {
			t.Fatal(err)
		}
		if err := txn.Tag("reg.test/lib/"+name, manifest, ""); err != nil {
			t.Fatal(err)
		}
		if err := txn.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := install(storetest.Begin(t, s), "a", 0, 0, 11); err != nil {
		t.Fatal(err)
	}
	image := func(name string) string {
		t.Helper()
		i, err := s.ImageOf(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	if image("lib/a") != image("reg.test/lib/a:latest") {
		t.Error("a short name is another image")
	}
	if image("a") != image("a.0") || image("a") == image("lib/a") {
		t.Error("the container does not go before the image")
	}
	if _, err := s.ImageOf(t.Context(), "lib/b"); !store.IsNotFound(err) || hint.Of(err) == "" {
		t.Errorf("lib/b:latest: %v", err)
	}
	var got []string
	a, err := s.ReadTree(t.Context(), image("lib/b:2"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.ReadTree(t.Context(), image("a"))
	if err != nil {
		t.Fatal(err)
	}
	b.Lookup("/dir1/file4").UID = 1
	b.Lookup("/dir2").RemoveChild("file5")
	for _, c := range store.Diff(a, b) {
		got = append(got, fmt.Sprint(c.Kind, " ", c.Path, c.What))
	}
	want := "added /dir0/file0[] changed /dir1/file4[owner] removed /dir2/file5[] added /proc[]"
	if strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
	if d := store.Diff(a, a); len(d) != 0 {
		t.Errorf("a tree differs from itself: %v", d)
	}
	body := content(0)
	if content, err := b.ReadFile("/dir0/file0", 1<<20); err != nil || string(content) != body {
		t.Errorf("/dir0/file0: %d bytes, %v", len(content), err)
	}
}
