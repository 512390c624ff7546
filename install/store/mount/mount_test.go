// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/install/store/storetest"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// privateMounts gives the test a mount namespace of its own.
func privateMounts(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	// The thread is not unlocked again: it dies with the goroutine, and the
	// namespace and everything mounted in it with the thread.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Skipf("no mount namespace: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

func regular(t testing.TB, txn *store.Txn, content string) *tree.Node {
	t.Helper()
	d, err := txn.PutObject([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return &tree.Node{Mode: unix.S_IFREG | 0o640, UID: 7, GID: 8, Sec: 1e9, Size: uint64(len(content)), Source: tree.SourceObject, Digest: d}
}

// newStore makes a store with one image of a few files.
func newStore(t testing.TB) (dir, image string) {
	t.Helper()
	return storeOf(t, func(txn *store.Txn, tr *tree.Tree) {
		tr.Root.SetChild("file", regular(t, txn, strings.Repeat("content\n", 1000)))
		tr.Root.SetChild("link", &tree.Node{Mode: unix.S_IFLNK | 0o777, Data: "file"})
		tr.Root.SetChild("tiny", &tree.Node{Mode: unix.S_IFREG | 0o4755, Data: "tiny", Size: 4, Source: tree.SourceInline})
		tr.Root.SetChild("ff", regular(t, txn, strings.Repeat("a name like an object directory's", 10)))
		if err := tr.AddMountPoint("/a/b", true); err != nil {
			t.Fatal(err)
		}
	})
}

// storeOf makes a store with one image, of what fill puts into it.
func storeOf(t testing.TB, fill func(*store.Txn, *tree.Tree)) (dir, image string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "store")
	txn, err := storetest.Open(t, dir).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Abort()
	tr := tree.New()
	fill(txn, tr)
	if image, err = txn.PutImage(tr); err != nil {
		t.Fatal(err)
	}
	if err := txn.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir, image
}

func TestMount(t *testing.T) {
	privateMounts(t)
	dir, image := newStore(t)
	target := t.TempDir()
	res, err := mount.Mount(mount.Options{StoreDir: dir, Image: image, Target: target, Verity: "try"})
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, hint.Of(err))
	}
	t.Logf("%+v", res)
	defer func() {
		if err := mount.Unmount(target); err != nil {
			t.Error(err)
		}
	}()
	got, err := os.ReadFile(filepath.Join(target, "link"))
	if want := strings.Repeat("content\n", 1000); err != nil || string(got) != want {
		t.Errorf("link: %d bytes, %v", len(got), err)
	}
	if got, err := os.ReadFile(filepath.Join(target, "tiny")); err != nil || string(got) != "tiny" {
		t.Errorf("tiny: %q, %v", got, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(target, "file"), &st); err != nil || st.Mode != unix.S_IFREG|0o640 || st.Uid != 7 || st.Gid != 8 || st.Mtim.Sec != 1e9 {
		t.Errorf("file: %+v, %v", st, err)
	}
	entries, err := os.ReadDir(target)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := "a ff file link tiny"; err != nil || strings.Join(names, " ") != want {
		t.Errorf("entries %q, %v, want %s", names, err, want)
	}
	if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want EROFS", err)
	}
}

func TestMountIDs(t *testing.T) {
	privateMounts(t)
	dir, image := newStore(t)
	if err := mount.CanIDMap(dir); err != nil {
		t.Skip(err)
	}
	target := t.TempDir()
	ids := mount.IDs{First: 700 << 16, Count: 1 << 16}
	if _, err := mount.Mount(mount.Options{StoreDir: dir, Image: image, Target: target, IDs: ids}); err != nil {
		t.Fatalf("%v (hint: %s)", err, hint.Of(err))
	}
	defer func() { _ = mount.Unmount(target) }()
	for name, want := range map[string][2]uint32{".": {0, 0}, "a/b": {0, 0}, "tiny": {0, 0}, "file": {7, 8}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(target, name), &st); err != nil || st.Uid != ids.First+want[0] || st.Gid != ids.First+want[1] {
			t.Errorf("%s: owner %d:%d, %v, want %d:%d above %d", name, st.Uid, st.Gid, err, want[0], want[1], ids.First)
		}
	}
	if got, err := os.ReadFile(filepath.Join(target, "link")); err != nil || len(got) != 8000 {
		t.Errorf("link: %d bytes, %v", len(got), err)
	}
}

func TestMountRefuses(t *testing.T) {
	privateMounts(t)
	dir, image := newStore(t)
	object := filepath.Join(dir, "objects", image[:2], image[2:])
	tests := []struct {
		name, verity, image, target, want string
		prepare                           func(t *testing.T)
		skipWithVerity                    bool
	}{
		{name: "no such image", image: strings.Repeat("0", 64), want: "no such image"},
		{name: "no digest", image: "../x", want: "want 64 hex digits"},
		{name: "policy", verity: "maybe", want: "none of require, try, off"},
		{name: "no target", target: "/nonexistent/target", want: "no such file"},
		{name: "require", verity: "require", want: "fs-verity is not enabled", skipWithVerity: true},
		{name: "tampered", want: "its content has the digest", prepare: func(t *testing.T) {
			b, err := os.ReadFile(object)
			if err != nil {
				t.Fatal(err)
			}
			b = bytes.Replace(b, []byte("tiny"), []byte("evil"), 1)
			if err := os.Remove(object); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(object, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "gone", want: "no such file", prepare: func(t *testing.T) {
			if err := os.Remove(object); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			privateMounts(t)
			o := mount.Options{StoreDir: dir, Image: image, Target: t.TempDir(), Verity: tt.verity}
			if tt.image != "" {
				o.Image = tt.image
			}
			if tt.target != "" {
				o.Target = tt.target
			}
			if tt.prepare != nil {
				tt.prepare(t)
			}
			res, err := mount.Mount(o)
			if err == nil {
				_ = mount.Unmount(o.Target)
				if tt.skipWithVerity && res.Enforced {
					t.Skip("there is fs-verity here")
				}
				t.Fatalf("mounted: %+v", res)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestVerifyContent(t *testing.T) {
	tests := []struct {
		name, want string
		damage     func(b []byte) []byte // nil: the object is removed
	}{
		{"good", "", func(b []byte) []byte { return b }},
		{"flipped bit", "/file: image cannot be verified", func(b []byte) []byte { b[4321] ^= 1; return b }},
		{"truncated", "/file: image cannot be verified", func(b []byte) []byte { return b[:4096] }},
		{"missing", "/file: open", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			privateMounts(t)
			dir, image := newStore(t)
			content := []byte(strings.Repeat("content\n", 1000))
			object := filepath.Join(dir, "objects", verity.Of(content).Path())
			if err := os.Remove(object); err != nil {
				t.Fatal(err)
			}
			if tt.damage != nil {
				if err := os.WriteFile(object, tt.damage(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o := mount.Options{StoreDir: dir, Image: image, Target: t.TempDir(), Verity: "off", VerifyContent: true}
			_, err := mount.Mount(o)
			if err == nil {
				err = mount.Unmount(o.Target)
			}
			if verr := mount.Verify(o); (verr == nil) != (err == nil) {
				t.Errorf("Verify says %v, Mount %v", verr, err)
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
