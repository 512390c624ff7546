// SPDX-License-Identifier: Apache-2.0

//go:build containers_image_openpgp

package images

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.podman.io/image/v5/copy"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/install/store/oci"
	rootfs "github.com/atomic-agent/atomic/install/store/tree"
)

// spelledOut is the image without the layers that need root and a network to
// build: what remains is its own description.
func spelledOut(i Image) Image {
	var layers []Layer
	for _, l := range i.Layers {
		l = slices.DeleteFunc(slices.Clone(l), func(s Source) bool {
			switch s.(type) {
			case Debian, Hello, GoModule:
				return true
			}
			return false
		})
		if len(l) > 0 {
			layers = append(layers, l)
		}
	}
	i.Layers = layers
	return i
}

// stored builds an image and puts it into a new store in dir, where it is
// called by the digest of its file system once txn is committed.
func stored(t *testing.T, b *Builder, dir string, i Image) (txn *store.Txn, root *rootfs.Tree, image string, err error) {
	t.Helper()
	if _, err := b.Build(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	built, err := filepath.Glob(filepath.Join(b.Dir, "*-"+i.Key()))
	if err != nil || len(built) != 1 {
		t.Fatalf("built %q, %v", built, err)
	}
	src, err := ocilayout.NewReference(built[0], "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, store.Options{Verity: "try"})
	if err != nil {
		t.Fatal(err)
	}
	if txn, err = s.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(txn.Abort)
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		t.Fatal(err)
	}
	ref := oci.NewReference(txn, nil)
	if _, err := copy.Image(t.Context(), policy, ref, src, &copy.Options{RemoveSignatures: true}); err != nil {
		return nil, nil, "", err
	}
	img, err := ref.Image()
	if err != nil {
		return nil, nil, "", err
	}
	if image, err = txn.PutImage(img.Tree); err != nil {
		return nil, nil, "", err
	}
	return txn, img.Tree, image, nil
}

// list says what a tree holds below dir, as check-shape does.
func list(t *testing.T, root *rootfs.Tree, dir string) string {
	t.Helper()
	type node struct {
		name string
		*rootfs.Node
	}
	var nodes []node
	err := root.Walk(dir, func(path string, n *rootfs.Node) error {
		nodes = append(nodes, node{"." + strings.TrimPrefix(path, dir), n})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(a.name, b.name) })
	var out strings.Builder
	for _, n := range nodes {
		name := n.name
		if n.IsSymlink() {
			name = fmt.Sprintf("'%s' -> '%s'", n.name, n.Data)
		}
		fmt.Fprintf(&out, "%s %d:%d %s\n", modeString(n.Mode), n.UID, n.GID, name)
	}
	for _, n := range nodes {
		if n.IsRegular() {
			data, err := root.ReadFile(dir+strings.TrimPrefix(n.name, "."), 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%x  %s\n", sha256.Sum256(data), n.name)
		}
	}
	return out.String()
}

// modeString writes a mode as ls does.
func modeString(m uint32) string {
	kind := map[uint32]byte{
		unix.S_IFREG: '-', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFIFO: 'p', unix.S_IFBLK: 'b', unix.S_IFCHR: 'c',
	}[m&unix.S_IFMT]
	s := []byte{kind}
	for i, c := range "rwxrwxrwx" {
		if m&(1<<(8-i)) == 0 {
			c = '-'
		}
		s = append(s, byte(c))
	}
	for i, bit := range map[int]uint32{3: unix.S_ISUID, 6: unix.S_ISGID} {
		if m&bit != 0 {
			s[i] = map[byte]byte{'x': 's', '-': 'S'}[s[i]]
		}
	}
	if m&unix.S_ISVTX != 0 {
		s[9] = map[byte]byte{'x': 't', '-': 'T'}[s[9]]
	}
	return string(s)
}

// TestShapes puts the images that are hard to store right into the store.
func TestShapes(t *testing.T) {
	for _, i := range shapeImages() {
		t.Run(i.Name(), func(t *testing.T) {
			_, root, _, err := stored(t, testBuilder(t), filepath.Join(t.TempDir(), "store"), spelledOut(i))
			if err != nil {
				t.Fatal(err)
			}
			want, err := root.ReadFile("/expected", 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), list(t, root, "/shape")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestEvilLayers puts hostile images into the store: an error is fine, and so
// is a root file system that keeps to itself.
func TestEvilLayers(t *testing.T) {
	for _, i := range evilImages() {
		t.Run(i.Name(), func(t *testing.T) {
			_, root, _, err := stored(t, testBuilder(t), filepath.Join(t.TempDir(), "store"), spelledOut(i))
			if _, statErr := os.Lstat("/tmp/evil"); statErr == nil {
				t.Fatal("/tmp/evil is there")
			}
			if err != nil {
				t.Logf("refused: %v", err)
				return
			}
			if n := root.Lookup("/etc/passwd"); n == nil || !n.IsRegular() {
				t.Error("the image has lost its /etc/passwd")
			}
		})
	}
}

// TestShapesMounted mounts them and lets each look at itself.
func TestShapesMounted(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("unpacks packages and mounts as root")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("no mmdebstrap")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with its mounts
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	b, err := NewBuilder(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range shapeImages() {
		dir := t.TempDir()
		txn, _, image, err := stored(t, b, filepath.Join(dir, "store"), i)
		if err != nil {
			t.Fatal(err)
		}
		if err := txn.Commit(); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, "rootfs")
		if err := os.Mkdir(target, 0o700); err != nil {
			t.Fatal(err)
		}
		how, err := mount.Mount(mount.Options{StoreDir: filepath.Join(dir, "store"), Image: image, Target: target, Verity: "try"})
		if err != nil {
			t.Fatal(err)
		}
		check := exec.CommandContext(t.Context(), "/usr/bin/check-shape")
		check.Dir, check.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: target}
		check.Env = []string{"PATH=/usr/bin"}
		if out, err := check.CombinedOutput(); err != nil || string(out) != "as expected\n" {
			t.Errorf("%s, mounted %+v: %v\n%s", i.Name(), how, err, out)
		}
		if i.Tags[0] == "files" {
			checkXattrs(t, filepath.Join(target, "shape/xattr"))
		}
		if err := mount.Unmount(target); err != nil {
			t.Error(err)
		}
	}
}

func checkXattrs(t *testing.T, file string) {
	t.Helper()
	for name, size := range map[string]int{"user.comment": len("hello"), "security.capability": 20} {
		buf := make([]byte, 64)
		if n, err := unix.Lgetxattr(file, name, buf); err != nil || n != size {
			t.Errorf("%s of %s: %d bytes, %v; want %d bytes", name, file, n, err, size)
		}
	}
}
