// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

// Builder builds images and keeps them below Dir.
type Builder struct {
	// Dir is the cache. Everything in it is named by a key, may be deleted at
	// any time when no builder runs, and is complete if it exists.
	Dir string
	// Mirror is the Debian mirror; empty is mmdebstrap's default.
	Mirror string
	// Log gets a line for each thing that is really made; nil is silence.
	Log io.Writer
}

// NewBuilder returns a builder on the user's cache: $ATOMIC_TEST_CACHE, or
// .cache/atomic-test below the home directory.
func NewBuilder(log io.Writer) (*Builder, error) {
	cache := os.Getenv("ATOMIC_TEST_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the cache: %w", err)
		}
		cache = filepath.Join(home, ".cache", "atomic-test")
	}
	return &Builder{Dir: filepath.Join(cache, "images"), Mirror: os.Getenv("ATOMIC_TEST_MIRROR"), Log: log}, nil
}

func (b *Builder) logf(format string, args ...any) {
	if b.Log != nil {
		fmt.Fprintf(b.Log, format+"\n", args...)
	}
}

// cached returns the path of the thing that kind and key name. If it is not
// there, build makes it at the path it is given, which does not exist; nobody
// else makes the same meanwhile.
func (b *Builder) cached(ctx context.Context, kind, key string, build func(dst string) error) (string, error) {
	final := filepath.Join(b.Dir, kind+"-"+key)
	if _, err := os.Lstat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(final+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Lstat(final); !errors.Is(err, fs.ErrNotExist) {
		return final, err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	tmp := final + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	b.logf("make %s", filepath.Base(final))
	if err := build(tmp); err != nil {
		_ = os.RemoveAll(tmp)
		return "", fmt.Errorf("make %s: %w", kind, err)
	}
	return final, os.Rename(tmp, final)
}

// Prune removes images and storage directories that are not the catalogue's
// any more. What images are made of stays. Nothing may use the cache meanwhile.
func (b *Builder) Prune() error {
	keep := map[string]bool{
		"storage-" + storageKey(Catalogue()): true,
		"storage-" + storageKey(Default()):   true,
	}
	made := map[string]bool{"storage": true}
	for _, i := range Catalogue() {
		keep[i.cacheKind()+"-"+i.Key()] = true
		made[i.cacheKind()] = true
	}
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".lock"), ".tmp")
		cut := strings.LastIndex(name, "-")
		if cut < 0 || !made[name[:cut]] || keep[name] {
			continue
		}
		b.logf("remove %s", e.Name())
		if err := os.RemoveAll(filepath.Join(b.Dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// debian returns a tar archive of the packages and all they depend on,
// unpacked and not configured.
func (b *Builder) debian(ctx context.Context, suite string, packages []string) (string, error) {
	return b.cached(ctx, "debian", hashJSON([]any{suite, packages}), func(dst string) error {
		// A mirror may lag behind; what it holds is signed all the same.
		args := []string{
			"--quiet", "--variant=extract", "--format=tar",
			`--aptopt=Acquire::Check-Valid-Until "false"`, `--aptopt=Acquire::Retries "3"`,
		}
		for _, p := range packages { // apart, because a pattern cannot share an option
			args = append(args, "--include="+p)
		}
		args = append(args, suite, dst)
		if b.Mirror != "" {
			args = append(args, b.Mirror)
		}
		return run(exec.CommandContext(ctx, "mmdebstrap", args...))
	})
}

func (i Image) cacheKind() string { return strings.ReplaceAll(i.Repo, "/", "-") }

// Build returns the image, out of the cache if it is there: a v1.Image, or a
// v1.ImageIndex for an Image with an Index.
func (b *Builder) Build(ctx context.Context, i Image) (v1.ImageIndex, error) {
	dir, err := b.cached(ctx, i.cacheKind(), i.Key(), func(dst string) error {
		p, err := layout.Write(dst, empty.Index)
		if err != nil {
			return err
		}
		if i.Index == nil {
			return b.writeImage(ctx, i, p)
		}
		for _, m := range i.Index {
			if err := b.writeImage(ctx, m, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", i.Name(), err)
	}
	return layout.ImageIndexFromPath(dir)
}

// writeImage assembles an image and appends it to a layout.
func (b *Builder) writeImage(ctx context.Context, i Image, p layout.Path) error {
	scratch, err := os.MkdirTemp(b.Dir, "layers")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	manifestType, configType, layerType := types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer
	if i.Docker {
		manifestType, configType, layerType = types.DockerManifestSchema2, types.DockerConfigJSON, types.DockerLayer
	}
	method := compression.GZip
	if i.Zstd {
		method, layerType = compression.ZStd, types.OCILayerZStd
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, manifestType), configType)
	var adds []mutate.Addendum
	for n, l := range i.Layers {
		file := filepath.Join(scratch, fmt.Sprint(n))
		if err := b.writeLayer(ctx, l, file); err != nil {
			return fmt.Errorf("layer %d: %w", n, err)
		}
		layer, err := tarball.LayerFromFile(file, tarball.WithCompression(method), tarball.WithMediaType(layerType))
		if err != nil {
			return fmt.Errorf("layer %d: %w", n, err)
		}
		adds = append(adds, mutate.Addendum{Layer: layer, MediaType: layerType, History: v1.History{
			Created: v1.Time{Time: Epoch}, CreatedBy: "atomic test/images",
		}})
	}
	img, err = mutate.Append(img, adds...)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.Created, config.OS, config.Architecture, config.Config = v1.Time{Time: Epoch}, "linux", i.arch(), i.Config
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return err
	}
	return p.AppendImage(img, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: i.arch()}))
}

// writeLayer collects the files of a layer into an uncompressed tar archive.
func (b *Builder) writeLayer(ctx context.Context, l Layer, dst string) error {
	t := tree{}
	for _, s := range l {
		if err := s.add(ctx, b, t); err != nil {
			return err
		}
	}
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	if err := t.writeTo(out); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
