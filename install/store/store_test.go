// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/storetest"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/internal/hint"
)

// content is the content of file i of every image in these tests: images that
// have the same files share objects.
func content(i int) string {
	g := rand.New(rand.NewPCG(uint64(i), 7))
	b := make([]byte, 65+g.IntN(20000))
	for k := range b {
		b[k] = byte(g.IntN(256))
	}
	return string(b)
}

// putImage puts an image of one layer with files first to last, and returns
// its manifest digest and its file system image.
func putImage(txn *store.Txn, first, last int) (manifest, image string, err error) {
	var items []tree.Item
	for i := first; i < last; i++ {
		body := content(i)
		d, err := txn.PutObject([]byte(body))
		if err != nil {
			return "", "", err
		}
		items = append(items, tree.Item{
			Path: fmt.Sprintf("dir%d/file%d", i%3, i),
			Node: &tree.Node{Mode: unix.S_IFREG | 0o644, Size: uint64(len(body)), Source: tree.SourceObject, Digest: d},
		})
	}
	layer := fmt.Sprintf("sha256:%x", sha256.Sum256(fmt.Appendf(nil, "layer %d-%d", first, last)))
	if err := txn.PutLayer(layer, items); err != nil {
		return "", "", err
	}
	config, err := txn.PutConfig(fmt.Appendf(nil, `{"created":"2026-01-02T03:04:05Z","os":"linux","n":[%d,%d]}`, first, last))
	if err != nil {
		return "", "", err
	}
	manifest, err = txn.PutManifest(fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q},"layers":[{"digest":%q,"size":10}]}`, config, layer))
	if err != nil {
		return "", "", err
	}
	img, err := txn.Load(manifest)
	if err != nil {
		return "", "", err
	}
	if err := img.Tree.AddMountPoint("/proc", true); err != nil {
		return "", "", err
	}
	image, err = txn.PutImage(img.Tree)
	return manifest, image, err
}

// install is one installation: an image, its tag and its ref.
func install(txn *store.Txn, name string, generation, first, last int) error {
	manifest, image, err := putImage(txn, first, last)
	if err != nil {
		return err
	}
	if err := txn.Tag("reg.test/"+name, manifest, ""); err != nil {
		return err
	}
	if err := txn.SetRef(name, generation, store.RefInfo{Image: image, Source: "reg.test/" + name, ManifestDigest: manifest}); err != nil {
		return err
	}
	return txn.Commit()
}

func fsckClean(t *testing.T, s *store.Store) *store.Report {
	t.Helper()
	rep, err := s.Fsck(t.Context(), store.FsckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range rep.Problems {
		t.Errorf("fsck: %s: %s", p.What, p.Why)
	}
	return rep
}

func objects(t *testing.T, s *store.Store) (list []string) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(s.Dir(), "objects", "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestLifeCycle(t *testing.T) {
	s := storetest.Open(t, filepath.Join(t.TempDir(), "store"))
	if err := install(storetest.Begin(t, s), "a", 0, 0, 10); err != nil {
		t.Fatal(err)
	}
	if err := install(storetest.Begin(t, s), "b", 3, 5, 15); err != nil {
		t.Fatal(err)
	}
	fsckClean(t, s)
	// 15 files, and for each image: image, layer list, manifest, config.
	if got := len(objects(t, s)); got != 15+2*4 {
		t.Errorf("%d objects", got)
	}
	refs, err := s.Refs()
	if err != nil || len(refs) != 2 || refs[1].Name != "b" || refs[1].Generation != 3 || refs[1].Source != "reg.test/b" {
		t.Errorf("refs: %+v, %v", refs, err)
	}
	images, err := s.Images()
	if err != nil || len(images) != 2 || images[0].Name != "reg.test/a" || images[0].Created.Year() != 2026 || images[0].Size != 10 {
		t.Errorf("images: %+v, %v", images, err)
	}
	if res, err := s.GC(t.Context()); err != nil || res.Objects+res.Names != 0 {
		t.Errorf("gc of a store without garbage: %+v, %v", res, err)
	}

	// The ref still keeps everything when the tag is gone, and the other way round.
	if err := s.Untag(t.Context(), "reg.test/a"); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveRef(t.Context(), "b", 3); err != nil {
		t.Fatal(err)
	}
	res, err := s.GC(t.Context())
	if err != nil || res.Objects != 1 { // the file system image of b
		t.Errorf("gc: %+v, %v", res, err)
	}
	fsckClean(t, s)
	if err := s.RemoveRef(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Untag(t.Context(), "reg.test/b"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := objects(t, s); len(left) != 0 {
		t.Errorf("%d objects are left", len(left))
	}
	if err := s.RemoveRef(t.Context(), "a", 0); err != nil {
		t.Errorf("remove a ref twice: %v", err)
	}
	if err := s.Untag(t.Context(), "reg.test/a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("untag twice: %v", err)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	s := storetest.Open(t, filepath.Join(t.TempDir(), "store"))
	txn := storetest.Begin(t, s)
	if _, _, err := putImage(txn, 0, 5); err != nil {
		t.Fatal(err)
	}
	txn.Abort()
	if left := objects(t, s); len(left) != 0 {
		t.Errorf("%d objects are left", len(left))
	}
	if e, err := os.ReadDir(filepath.Join(s.Dir(), "staging")); err != nil || len(e) != 0 {
		t.Errorf("staging has %d entries, %v", len(e), err)
	}
	if err := txn.Commit(); err == nil {
		t.Error("commit after abort")
	}
}

func TestGCWaitsForTransactions(t *testing.T) {
	s := storetest.Open(t, filepath.Join(t.TempDir(), "store"))
	txn := storetest.Begin(t, s)
	if _, err := txn.PutObject([]byte(content(1))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextDone(t)
	defer cancel()
	_, err := s.GC(ctx)
	if !errors.Is(err, store.ErrBusy) || !strings.Contains(hint.Of(err), fmt.Sprint(os.Getpid())) {
		t.Errorf("gc during a transaction: %v (hint: %s)", err, hint.Of(err))
	}
}

func TestFsckFinds(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string, object string)
		want   string
	}{
		{"flipped bit", func(t *testing.T, _, object string) {
			b, err := os.ReadFile(object)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 4
			rewrite(t, object, b)
		}, "its content has the digest"},
		{"truncated", func(t *testing.T, _, object string) { rewrite(t, object, nil) }, "its content has the digest"},
		{"missing", func(t *testing.T, _, object string) {
			if err := os.Remove(object); err != nil {
				t.Fatal(err)
			}
		}, "is missing or damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := storetest.Open(t, filepath.Join(t.TempDir(), "store"))
			if err := install(storetest.Begin(t, s), "a", 0, 0, 10); err != nil {
				t.Fatal(err)
			}
			for _, object := range objects(t, s) {
				// Damage each object in a copy of the situation: repair, and
				// the same installation brings everything back.
				tt.damage(t, s.Dir(), object)
				rep, err := s.Fsck(t.Context(), store.FsckOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if rep.Clean() || !strings.Contains(fmt.Sprint(rep.Problems), tt.want) {
					t.Fatalf("%s: problems %v", object, rep.Problems)
				}
				if len(rep.Pull) != 1 || rep.Pull[0] != "reg.test/a" {
					t.Fatalf("%s: to pull: %v", object, rep.Pull)
				}
				if _, err := s.Fsck(t.Context(), store.FsckOptions{Repair: true}); err != nil {
					t.Fatal(err)
				}
				if err := install(storetest.Begin(t, s), "a", 0, 0, 10); err != nil {
					t.Fatal(err)
				}
				fsckClean(t, s)
			}
		})
	}
}

// rewrite replaces a file, as somebody who may write to the store can.
func rewrite(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
