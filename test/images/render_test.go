// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atomic-agent/atomic/unitgen"
)

// flat are the files of an image that its description spells out: all but
// programs. That is enough to render it.
func flat(t *testing.T, i Image) tree {
	t.Helper()
	all := tree{}
	for _, l := range i.Layers {
		for _, s := range l {
			switch s.(type) {
			case Files, Embedded, literal:
				if err := s.add(t.Context(), nil, all); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return all
}

// render does what an installation does with an image, as far as unitgen.
func render(t *testing.T, i Image, grants ...string) (*unitgen.Output, error) {
	t.Helper()
	all := flat(t, i)
	read := func(p string) []byte {
		if f, ok := all[strings.Trim(p, "/")]; ok {
			return append([]byte{}, f.data...)
		}
		return nil
	}
	var config ispec.ImageConfig
	data, err := json.Marshal(i.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	name := path.Base(i.Repo)
	in := unitgen.Input{
		Name: name, Generation: 1, DestDir: "/var/lib/containers/atomic/" + name + ".1",
		ImageName: "registry.test:5000/" + i.Name(), ImageID: strings.Repeat("0", 64),
		ImageConfig: ispec.Image{Config: config},
		Exports: unitgen.Exports{
			ConfigJSON: read("exports/config.json"), ConfigTemplate: read("exports/config.json.template"),
			ServiceTemplate: read("exports/service.template"), Tmpfiles: read("exports/tmpfiles.template"),
			Manifest: read("exports/manifest.json"), HostFS: hostfs(all),
			Lookup: func(p string) (unitgen.Entry, bool) {
				f, ok := all[strings.Trim(p, "/")]
				return unitgen.Entry{Mode: mode(f), Target: f.link}, ok
			},
			ReadFile: func(p string) ([]byte, error) {
				if data := read(p); data != nil {
					return data, nil
				}
				return nil, fmt.Errorf("read %s: %w", p, fs.ErrNotExist)
			},
		},
		Grants: grants,
		Host: unitgen.HostFacts{
			Capabilities: []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"},
			UUID:         "00000000-0000-4000-8000-000000000000",
			Launcher:     "/usr/libexec/atomic/atomic-launch", Agent: "/usr/bin/atomic",
			Exists: func(string) bool { return false }, Verity: "try",
		},
	}
	return unitgen.Render(in)
}

func mode(f file) fs.FileMode {
	m := fs.FileMode(f.mode & 0o777)
	if f.mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	switch f.typ {
	case tar.TypeDir:
		m |= fs.ModeDir
	case tar.TypeSymlink:
		m |= fs.ModeSymlink
	}
	return m
}

func hostfs(all tree) []unitgen.HostFile {
	var list []unitgen.HostFile
	const root = "exports/hostfs"
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, root+"/") {
			f := all[name]
			list = append(list, unitgen.HostFile{
				Path: strings.TrimPrefix(name, root), Mode: mode(f), UID: f.uid, GID: f.gid,
				Content: f.data, Target: f.link, ModTime: Epoch,
			})
		}
	}
	return list
}

// refused are the images that cannot be rendered, and what the error says.
var refused = map[string]string{
	"library/broken:variable":    "unreplaced value for: ''NOPE''",
	"library/broken:placeholder": "Invalid placeholder in string: line 3, col 27",
	"library/broken:json":        "Invalid json in configuration file",
	"library/broken:writable":    "Only readonly images are supported",
	"library/broken:manifest":    "/exports/manifest.json:2:1: Invalid manifest.json file in image",
	"library/evil:rename":        "renameFiles",
}

// asking are the images that need a grant, and one of those they need.
var asking = map[string]string{
	"library/etcd:greedy":              "hostfs:/etc/cron.d/etcd",
	"library/flanneld:0.26":            "cap:NET_ADMIN",
	"contract/net-snmp:latest":         "path:/dev:rw",
	"contract/qemu-guest-agent:latest": "path:/:rw",
	"contract/open-vm-tools:latest":    "path:/etc/shadow:ro",
	"contract/kube-apiserver:latest":   "path:/etc/kubernetes:ro",
	"contract/kubelet:latest":          "propagate:/var/lib/kubelet",
	"contract/docker:latest":           "path:/run:rw",
	"contract/flannel:latest":          "path:/etc/systemd/system/docker.service.d:rw",
	"contract/azure:latest":            "exec:ExecStart=/bin/sh agent.sh",
	"contract/links:latest":            "hostfs:/usr/local/share/links/none",
	"contract/values:latest":           "cap:NET_ADMIN",
	"contract/buildah:latest":          "path:/run:rw",
	"library/evil:setuid":              "setuid:/usr/local/bin/evil",
	"library/evil:hostfs":              "hostfs:/etc/passwd",
	"library/evil:unit":                "exec:ExecStartPre=+/bin/touch /tmp/evil",
	"library/evil:tmpfiles":            "tmpfiles:/tmp/evil",
}

// TestRender renders every image. It holds the images to what they are for:
// which ask for nothing, which for grants, which cannot be installed.
func TestRender(t *testing.T) {
	for _, i := range Catalogue() {
		if i.Index != nil {
			continue
		}
		t.Run(i.Name(), func(t *testing.T) {
			out, err := render(t, i)
			if want := refused[i.Name()]; want != "" {
				var problems *unitgen.Problems
				if !errors.As(err, &problems) || !strings.Contains(err.Error(), want) {
					t.Errorf("rendered with %v, want problems with %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := asking[i.Name()]; want != "" && !slices.Contains(out.Missing, want) || want == "" && len(out.Missing) > 0 {
				t.Errorf("asks for %q, want %q among them", out.Missing, want)
			}
			if out, err = render(t, i, out.Missing...); err != nil || len(out.Missing) > 0 {
				t.Errorf("with all that it asks for: %v, still missing %q", err, out.Missing)
			}
		})
	}
}

// TestRenderQuiet checks that the main images render without a warning, and
// that their host files are complete.
func TestRenderQuiet(t *testing.T) {
	list, err := Select("etcd", "flanneld", "hello")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if i.Index != nil {
			continue
		}
		out, err := render(t, i)
		if err != nil {
			t.Errorf("%s: %v", i.Name(), err)
			continue
		}
		if len(out.Warnings) > 0 {
			t.Errorf("%s: %s", i.Name(), strings.Join(out.Warnings, "; "))
		}
		for _, f := range out.HostFiles {
			if bytes.Contains(f.Content, []byte("$NAME")) {
				t.Errorf("%s: %s was not rendered", i.Name(), f.Path)
			}
		}
	}
}
