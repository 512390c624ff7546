// SPDX-License-Identifier: Apache-2.0

//go:build containers_image_openpgp

package images

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/oci"
	rootfs "github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// TestPullAll pulls every image from a real registry into a real store. The
// programs are left out of the images, what matters here is their form.
func TestPullAll(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a registry")
	}
	if _, err := exec.LookPath("docker-registry"); err != nil {
		t.Skip("no docker-registry")
	}
	var list []Image
	for _, i := range Default() {
		i = spelledOut(i)
		for n := range i.Index {
			i.Index[n] = spelledOut(i.Index[n])
		}
		list = append(list, i)
	}
	dir, err := testBuilder(t).Storage(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	registry, err := Serve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := registry.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{Verity: "off"})
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]string{
		"library/hello:arm64":      "arm64",
		"library/hello:arm64only":  "arm64",
		"library/broken:digest":    "digest",
		"library/broken:truncated": "",
		"library/broken:missing":   "",
	}
	for _, i := range list {
		err := pullInto(t, s, registry.Host+"/"+i.Name())
		want, bad := refused[i.Name()]
		switch {
		case strings.HasPrefix(i.Repo, "library/evil"): // refused or harmless, see TestEvilLayers
			if err != nil && hint.Of(err) != rootfs.BadLayerHint {
				t.Errorf("%s: %v (hint: %q)", i.Name(), err, hint.Of(err))
			}
		case !bad && err != nil:
			t.Errorf("%s: %v", i.Name(), err)
		case bad && err == nil:
			t.Errorf("%s: pulled", i.Name())
		case bad && (hint.Of(err) == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v (hint: %q), want %q in it and a hint", i.Name(), err, hint.Of(err), want)
		}
		if err != nil {
			t.Logf("%s: %v\n\thint: %s", i.Name(), err, hint.Of(err))
		}
	}
}

func pullInto(t *testing.T, s *store.Store, text string) error {
	t.Helper()
	name, err := image.ParseName("http:" + text)
	if err != nil {
		return err
	}
	sys, err := image.System(image.Options{Host: paths.Host{Root: t.TempDir()}, Insecure: name.Insecure})
	if err != nil {
		return err
	}
	policy, err := trust.Load(paths.Host{}, true)
	if err != nil {
		return err
	}
	candidates, err := image.Resolve(sys, name)
	if err != nil {
		return err
	}
	txn, err := s.Begin(t.Context())
	if err != nil {
		return err
	}
	defer txn.Abort()
	var ref *oci.Reference
	p := &image.Puller{System: sys, Policy: policy}
	_, err = p.Pull(t.Context(), candidates, func(img *image.Image) (types.ImageReference, error) {
		ref = oci.NewReference(txn, candidates.List[0].Name)
		return ref, nil
	})
	if err != nil {
		return err
	}
	if _, err := ref.Image(); err != nil {
		return err
	}
	return txn.Commit()
}
