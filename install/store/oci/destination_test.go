// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.podman.io/image/v5/copy"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/oci"
	"github.com/atomic-agent/atomic/install/store/storetest"
)

// entry is one tar entry of a test layer.
type entry struct {
	tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}

func dir(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range entries {
		if err := w.WriteHeader(&entries[i].Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, entries[i].body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// copyImage makes an OCI image of the layers and copies it into txn.
func copyImage(t *testing.T, txn *store.Txn, layers ...[]byte) (*store.Image, error) {
	t.Helper()
	return copySealed(t, txn, nil, layers...)
}

// copySealed does the same with annotations in the manifest.
func copySealed(t *testing.T, txn *store.Txn, annotations map[string]string, layers ...[]byte) (*store.Image, error) {
	t.Helper()
	img := empty.Image
	for _, l := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	if annotations != nil {
		img, _ = mutate.Annotations(img, annotations).(v1.Image)
	}
	path := filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(path, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	src, err := ocilayout.NewReference(path, "")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		t.Fatal(err)
	}
	ref := oci.NewReference(txn, nil)
	if _, err := copy.Image(context.Background(), policy, ref, src, &copy.Options{RemoveSignatures: true}); err != nil {
		return nil, err
	}
	return ref.Image()
}

func TestCopy(t *testing.T) {
	s := storetest.Open(t, filepath.Join(t.TempDir(), "store"))
	txn := storetest.Begin(t, s)
	big := string(bytes.Repeat([]byte("0123456789abcde\n"), 200000))
	img, err := copyImage(t, txn,
		archive(t, dir("etc"), file("etc/a", "lower"), file("etc/gone", "x"), dir("d"), file("d/x", "x")),
		archive(t, file("etc/.wh.gone", ""), file("etc/a", "upper"), file("d/.wh..wh..opq", ""), file("d/y", "y"),
			file("exports/service.template", string(bytes.Repeat([]byte("s"), 100))), file("big", big)),
	)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/etc/a": "upper", "/d/y": "y", "/exports/service.template": string(bytes.Repeat([]byte("s"), 100)), "/big": big,
	} {
		got, err := img.Tree.ReadFile(path, 10<<20)
		if err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	for _, path := range []string{"/etc/gone", "/d/x"} {
		if img.Tree.Lookup(path) != nil {
			t.Errorf("%s is still there", path)
		}
	}
	if err := img.Tree.AddMountPoint("/proc", true); err != nil {
		t.Fatal(err)
	}
	image, err := txn.PutImage(img.Tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := txn.SetRef("etcd", 0, store.RefInfo{Image: image, Source: "reg/etcd:1", ManifestDigest: img.ManifestDigest}); err != nil {
		t.Fatal(err)
	}
	if err := txn.Tag("reg/etcd:1", img.ManifestDigest, ""); err != nil {
		t.Fatal(err)
	}
	if err := txn.Commit(); err != nil {
		t.Fatal(err)
	}
	list, err := s.Images()
	if err != nil || len(list) != 1 || list[0].ManifestDigest != img.ManifestDigest {
		t.Errorf("images: %+v, %v", list, err)
	}

	// The same once more, from the store alone.
	txn = storetest.Begin(t, s)
	again, err := txn.Load(img.ManifestDigest)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Tree.AddMountPoint("/proc", true); err != nil {
		t.Fatal(err)
	}
	if got, err := txn.PutImage(again.Tree); err != nil || got != image {
		t.Errorf("image made again is %s, was %s, %v", got, image, err)
	}
}

// TestExportImport exports an image and imports the archive: the same image
// must come of it.
func TestExportImport(t *testing.T) {
	s := storetest.Open(t, filepath.Join(t.TempDir(), "store"))
	install := func(layer []byte) string {
		txn := storetest.Begin(t, s)
		img, err := put(t, txn, bytes.NewReader(layer))
		if err != nil {
			t.Fatal(err)
		}
		image, err := txn.PutImage(img.Tree)
		if err != nil {
			t.Fatal(err)
		}
		if err := txn.SetRef("a", 0, store.RefInfo{Image: image, ManifestDigest: img.ManifestDigest}); err != nil {
			t.Fatal(err)
		}
		if err := txn.Commit(); err != nil {
			t.Fatal(err)
		}
		return image
	}
	want := install(fuzzArchive(t))
	found, err := s.FindImage("a")
	if err != nil || found != want {
		t.Errorf("found %s, %v, want %s", found, err, want)
	}
	var exported bytes.Buffer
	if err := s.Export(t.Context(), want, &exported); err != nil {
		t.Fatal(err)
	}
	if got := install(exported.Bytes()); got != want {
		t.Errorf("the image is %s, was %s", got, want)
	}
	u, err := s.Usage(t.Context())
	if err != nil || len(u.Refs) != 1 || u.Refs[0].Files != 1 || u.Refs[0].Own != 100 {
		t.Errorf("usage %+v, %v", u, err)
	}
}
