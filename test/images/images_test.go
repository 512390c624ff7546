// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// testBuilder has a cache of its own.
func testBuilder(t *testing.T) *Builder {
	t.Helper()
	return &Builder{Dir: t.TempDir()}
}

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	again := Catalogue()
	for n, i := range Catalogue() {
		if i.Key() != again[n].Key() {
			t.Errorf("%s: key is not stable", i.Name())
		}
		if i.Why == "" {
			t.Errorf("%s: nobody says what it is for", i.Name())
		}
		for _, tag := range i.Tags {
			name := i.Repo + ":" + tag
			if seen[name] {
				t.Errorf("%s: listed twice", name)
			}
			seen[name] = true
		}
	}
}

func TestSelect(t *testing.T) {
	for _, c := range []struct {
		patterns []string
		want     int
	}{
		{[]string{"etcd"}, 5},
		{[]string{"library/etcd"}, 5},
		{[]string{"etcd:latest"}, 1},
		{[]string{"library/etcd:3.5*", "hello:multi"}, 3},
	} {
		got, err := Select(c.patterns...)
		if err != nil || len(got) != c.want {
			t.Errorf("Select(%q) = %d images, %v; want %d", c.patterns, len(got), err, c.want)
		}
	}
	if _, err := Select("etcd", "nonesuch"); err == nil || !strings.Contains(err.Error(), "nonesuch") {
		t.Errorf("Select of an unknown image: %v", err)
	}
}

var variable = regexp.MustCompile(`\$(\$|[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})`)

// builtin are the values that the installer provides.
var builtin = strings.Fields(`DESTDIR NAME EXEC_START EXEC_STOP EXEC_STARTPRE EXEC_STOPPOST HOST_UID HOST_GID
	IMAGE_NAME IMAGE_ID RUN_DIRECTORY PIDFILE CONF_DIRECTORY STATE_DIRECTORY ALL_PROCESS_CAPABILITIES UUID`)

// TestTemplates renders every template with its defaults, naively, and checks
// that no variable is unknown and that JSON comes out where it should.
func TestTemplates(t *testing.T) {
	for _, i := range Catalogue() {
		exports := tree{}
		for _, l := range i.Layers {
			for _, s := range l {
				if e, ok := s.(Embedded); ok {
					if err := e.add(t.Context(), nil, exports); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if len(exports) == 0 {
			continue
		}
		t.Run(i.Name(), func(t *testing.T) { checkTemplates(t, exports) })
	}
}

func checkTemplates(t *testing.T, exports tree) {
	var manifest struct {
		DefaultValues          map[string]any
		InstalledFilesTemplate []string
		RenameFiles            map[string]string
	}
	if f, ok := exports["exports/manifest.json"]; ok {
		if err := json.Unmarshal(f.data, &manifest); err != nil {
			t.Fatalf("manifest.json: %v", err)
		}
	}
	for name, f := range exports {
		if path.Dir(name) != "exports" || !strings.HasSuffix(name, ".template") {
			continue
		}
		out := variable.ReplaceAllFunc(f.data, func(m []byte) []byte {
			key := strings.Trim(string(m[1:]), "{}")
			if key == "$" {
				return []byte("$")
			}
			if key == "ALL_PROCESS_CAPABILITIES" {
				return []byte(`"CAP_CHOWN", "CAP_KILL"`)
			}
			if v, ok := manifest.DefaultValues[key]; ok {
				return fmt.Append(nil, v)
			}
			if !slices.Contains(builtin, key) {
				t.Errorf("%s: unknown variable %s", name, m)
			}
			return []byte("x")
		})
		if strings.HasSuffix(name, ".json.template") && !json.Valid(out) {
			t.Errorf("%s does not become JSON:\n%s", name, out)
		}
	}
}

// TestReproducible builds an image twice, in two caches.
func TestReproducible(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	image := Image{
		Repo: "test/hello", Tags: []string{"1"},
		Layers: []Layer{{
			Files{"etc/x": text("x"), "srv/a/b": text("b").owner(1, 2), "lib": symlink("usr/lib")},
			Hello{Arch: runtime.GOARCH},
		}, {Embedded("hello")}},
	}
	var digests []string
	for range 2 {
		built, err := testBuilder(t).Build(t.Context(), image)
		if err != nil {
			t.Fatal(err)
		}
		m, err := built.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, m.Manifests[0].Digest.String())
	}
	if digests[0] != digests[1] {
		t.Errorf("built twice, came out as %v", digests)
	}
}

func TestTreeSorted(t *testing.T) {
	in := tree{}
	in.add("/b/c/d", text("d"))
	in.add("a", symlink("b"))
	in.add("b", dir(0o700))
	var out bytes.Buffer
	if err := in.writeTo(&out); err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(Epoch) {
			t.Errorf("%s: modified at %v", h.Name, h.ModTime)
		}
		names = append(names, h.Name)
	}
	if want := []string{"a", "b/", "b/c/", "b/c/d"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

// TestStorage fills a storage directory and asks a registry for what is in it.
func TestStorage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a registry")
	}
	if _, err := exec.LookPath("docker-registry"); err != nil {
		t.Skip("no docker-registry")
	}
	whole := Image{Repo: "test/whole", Tags: []string{"1", "latest"}, Layers: []Layer{{Files{"x": text("whole")}}}}
	b := testBuilder(t)
	dir, err := b.Storage(t.Context(), []Image{whole})
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.Storage(t.Context(), []Image{whole})
	if err != nil || again != dir {
		t.Fatalf("second time: %q, %v; want %q", again, err, dir)
	}
	s, err := Serve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), "test/whole:latest", "test/whole:2"); err != nil {
		t.Error(err)
	}
	if err := s.Tag(t.Context(), "test/whole:none", "test/whole:3"); err == nil {
		t.Error("tagged an image that is not there")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDamage checks that a damaged image is served, and is damaged.
func TestDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a registry")
	}
	if _, err := exec.LookPath("docker-registry"); err != nil {
		t.Skip("no docker-registry")
	}
	var list []Image
	for _, d := range []Damage{Intact, WrongBytes, Truncated, Missing} {
		list = append(list, Image{Repo: "test/damage", Tags: []string{"x" + string(d)}, Damage: d, Layers: []Layer{{noise(string(d))}}})
	}
	dir, err := testBuilder(t).Storage(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Serve(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		err := pull(t, s.Registry, i.Name())
		if (err == nil) != (i.Damage == Intact) {
			t.Errorf("pull %s: %v", i.Name(), err)
		}
		t.Logf("%s: %v", i.Name(), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// pull reads all layers of an image and checks their digests.
func pull(t *testing.T, r Registry, name string) error {
	t.Helper()
	ref, err := r.reference(name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return validate.Image(img)
}

func TestPrune(t *testing.T) {
	b := testBuilder(t)
	kept := Catalogue()[0]
	for name, want := range map[string]bool{
		"library-etcd-" + kept.Key(): true, "library-etcd-0123456789abcdef0123456789abcdef": false, "storage-0123": false,
		"storage-0123.lock": false, "library-etcd-" + kept.Key() + ".lock": true, "debian-0123": true,
	} {
		if err := os.MkdirAll(filepath.Join(b.Dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := os.Stat(filepath.Join(b.Dir, name)); (err == nil) != want {
				t.Errorf("%s is there: %v, want %v", name, err == nil, want)
			}
		}()
	}
	if err := b.Prune(); err != nil {
		t.Fatal(err)
	}
}
