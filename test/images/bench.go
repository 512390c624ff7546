// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"cmp"
	"context"
	"runtime"
	"slices"
)

// bigPackages unpack to some 560 MB in 13000 files, small and large ones.
var bigPackages = []string{"?essential", "apt", "gcc", "g++", "git", "openssl", "python3", "vim-runtime"}

// bigImages are the hello server on top of a large Debian, for benchmarks of
// pulling, storing and updating.
func bigImages() []Image {
	var first, second []Layer
	for _, d := range []Debian{
		{Leave: []string{"dev/", "usr/lib/", "usr/libexec/", "usr/share/"}},
		{Take: []string{"usr/lib/", "usr/libexec/"}},
		{Take: []string{"usr/share/"}},
	} {
		d.Suite, d.Packages = stable, bigPackages
		first = append(first, Layer{d})
		second = append(second, Layer{d, revised{}})
	}
	top := []Layer{{Hello{Arch: runtime.GOARCH}}, {Embedded("hello")}}
	config := helloConfig("notify")
	config.Labels = labels("big", "1", "1", "A server that says hello out of a large Debian")
	big := func(tag, why string, layers []Layer) Image {
		return Image{
			Repo: "library/big", Tags: []string{tag}, Why: why, Bench: true,
			Layers: append(layers[:len(layers):len(layers)], top...), Config: config,
		}
	}
	return []Image{
		big("gzip", "560 MB in 13000 files", first),
		zstd(big("zstd", "big:gzip with zstd layers", first)),
		big("2", "big:gzip with one in ten files and bytes changed", second),
	}
}

// revised changes one in ten of the regular files of its layer so far, of small
// and of large ones alike, so that nine in ten bytes stay as they are, too.
type revised struct{}

func (revised) key() string { return "revised-2" }

func (revised) add(_ context.Context, _ *Builder, t tree) error {
	var names []string
	for name, f := range t {
		if f.typ == tar.TypeReg {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(t[a].data), len(t[b].data)), cmp.Compare(a, b))
	})
	for i := 4; i < len(names); i += 10 {
		f := t[names[i]]
		f.data = append(f.data[:len(f.data):len(f.data)], "\nsecond release\n"...)
		t[names[i]] = f
	}
	return nil
}
