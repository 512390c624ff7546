// SPDX-License-Identifier: Apache-2.0

// Package images builds the container images that the system tests and the
// benchmarks install: real ones, with real payloads from Debian packages and
// Go modules, assembled without a container engine.
//
// An Image is a description. Its Key is a hash of everything that goes into
// it, so a built image is found again in the cache and never built twice. What
// comes out depends on the description alone: files are sorted, all times are
// Epoch, owners are what the description says.
//
// A Builder builds images into OCI layouts below its cache directory, pushes
// them to a registry, and fills the storage directory of a registry with all
// of them, which a test then serves as it is.
//
// The package is for tests: nothing outside test/ imports it. It needs root's
// mmdebstrap for Debian packages, the go command for Go programs, and
// docker-registry to fill a storage directory.
package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Epoch is the modification time of every file and the creation time of every
// image.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// revision is part of every key: raise it when the builder itself changes what
// comes out for the same description.
const revision = 1

// Image describes one image.
type Image struct {
	// Repo is the repository without the registry, "library/etcd".
	Repo string
	// Tags all name this image.
	Tags []string
	// Why says what the image is for.
	Why string
	// Bench images are large; they are built only when asked for.
	Bench bool
	// Arch is the architecture the image claims, that of this machine if empty.
	Arch string
	// Docker gives it Docker's media types instead of OCI's.
	Docker bool
	// Zstd compresses the layers with zstd instead of gzip.
	Zstd bool
	// Layers are the layers, lowest first; Config the image configuration.
	Layers []Layer
	Config v1.Config
	// Index, if set, makes this an image index of these images, and nothing
	// else of the above counts but Repo, Tags, Why and Bench.
	Index []Image
	// Damage breaks the image inside the registry's storage after the push.
	Damage Damage
}

// Layer is a list of sources; a later one overrides files of an earlier one.
type Layer []Source

// Name is the image's reference without registry.
func (i Image) Name() string { return i.Repo + ":" + i.Tags[0] }

func (i Image) arch() string {
	if i.Arch == "" {
		return runtime.GOARCH
	}
	return i.Arch
}

// Key is the hash of everything that goes into the image. Repo and Tags do
// not: they name it only.
func (i Image) Key() string {
	type layerKey []string
	description := struct {
		Revision     int
		Arch         string
		Docker, Zstd bool
		Layers       []layerKey
		Config       v1.Config
		Index        []string
	}{Revision: revision, Arch: i.arch(), Docker: i.Docker, Zstd: i.Zstd, Config: i.Config}
	for _, l := range i.Layers {
		var k layerKey
		for _, s := range l {
			k = append(k, s.key())
		}
		description.Layers = append(description.Layers, k)
	}
	for _, m := range i.Index {
		description.Index = append(description.Index, m.Key())
	}
	return hashJSON(description)
}

// hashJSON names a value by its JSON form; 16 bytes are plenty for a cache.
func hashJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("images: description cannot be encoded: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}
