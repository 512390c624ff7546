// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"

	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// FindImage finds an image in the store by its name, the end of its name, or
// the beginning of its digest.
func (a *Agent) FindImage(what string) (Image, error) {
	images, err := a.Images()
	if err != nil {
		return Image{}, err
	}
	var found []Image
	for _, img := range images {
		if img.Name == what || img.Name == what+":latest" {
			return img, nil
		}
		id := strings.TrimPrefix(img.ManifestDigest, "sha256:")
		short := img.Name[strings.LastIndexByte(img.Name, '/')+1:]
		if short == what || short == what+":latest" || len(what) >= 4 && strings.HasPrefix(id, strings.TrimPrefix(what, "sha256:")) {
			found = append(found, img)
		}
	}
	if slices.IndexFunc(found, func(i Image) bool { return i.ManifestDigest != found[0].ManifestDigest }) < 0 && len(found) > 1 {
		found = found[:1] // several names of one image
	}
	switch len(found) {
	case 0:
		return Image{}, hint.New(fmt.Errorf("no container and no image %q: %w", what, store.ErrNotFound), "atomic pull fetches an image; atomic containers list -a and atomic images list show what is here")
	case 1:
		return found[0], nil
	}
	return Image{}, hint.New(fmt.Errorf("Found more than one Image with name %s", what), "write the full name") //nolint:staticcheck // the wording is part of the contract
}

// ImageConfig returns the configuration of an image in the store.
func (a *Agent) ImageConfig(ctx context.Context, digest string) (*ispec.Image, error) {
	img, done, err := a.loadImage(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer done()
	return parseImageConfig(img)
}

// ImageExports returns the templates of an image in the store.
func (a *Agent) ImageExports(ctx context.Context, digest string) (*unitgen.Exports, error) {
	img, done, err := a.loadImage(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer done()
	e, err := readExports(img.Tree)
	return &e, err
}

func (a *Agent) loadImage(ctx context.Context, digest string) (*store.Image, func(), error) {
	txn, err := a.transaction(ctx)
	if err != nil {
		return nil, nil, err
	}
	img, err := txn.Load(digest)
	if err != nil {
		txn.Abort()
		return nil, nil, err
	}
	return img, txn.Abort, nil
}

func parseImageConfig(img *store.Image) (*ispec.Image, error) {
	config := &ispec.Image{}
	if err := json.Unmarshal(img.Config, config); err != nil {
		return nil, fmt.Errorf("parse image configuration: %w", err)
	}
	return config, nil
}

// InspectRemote looks up what a registry has under a name, without fetching it.
func (a *Agent) InspectRemote(ctx context.Context, src Source) (*image.Image, error) {
	sys, candidates, err := a.candidates(src)
	if err != nil {
		return nil, err
	}
	policy, err := trust.Load(a.host, src.AllowUnsigned)
	if err != nil {
		return nil, err
	}
	return (&image.Puller{System: sys, Policy: policy}).Inspect(ctx, candidates)
}

// DeleteRemote removes an image from its registry.
func (a *Agent) DeleteRemote(ctx context.Context, src Source) error {
	sys, candidates, err := a.candidates(src)
	if err != nil {
		return err
	}
	if len(candidates.List) != 1 {
		return hint.New(fmt.Errorf("%s could be in any of %d registries", src.Image, len(candidates.List)), "write the name with its registry")
	}
	if err := candidates.List[0].Ref.DeleteImage(ctx, sys); err != nil {
		return fmt.Errorf("delete %s from its registry: %w", src.Image, err)
	}
	return nil
}

// Tag gives an image in the store another name and returns that in full: with
// a registry, "localhost" if it has none, and a tag.
func (a *Agent) Tag(ctx context.Context, what, target string) (string, error) {
	img, err := a.FindImage(what)
	if err != nil {
		return "", err
	}
	full, err := localName(target)
	if err != nil {
		return "", err
	}
	txn, err := a.transaction(ctx)
	if err != nil {
		return "", err
	}
	defer txn.Abort()
	if err := txn.TagVerdict(full, img.ManifestDigest, img.IndexDigest, img.Verdict); err != nil {
		return "", err
	}
	return full, txn.Commit()
}

// localName completes a name that no registry is asked about.
func localName(name string) (string, error) {
	first, _, hasPath := strings.Cut(name, "/")
	if !hasPath || !strings.ContainsAny(first, ".:") && first != "localhost" {
		name = "localhost/" + name
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err == nil && !reference.IsNameOnly(named) {
		if _, tagged := named.(reference.NamedTagged); !tagged {
			err = errors.New("a digest is not given, it is what an image has")
		}
	}
	if err != nil {
		return "", hint.New(fmt.Errorf("image name %q: %w", name, err), "a name looks like registry.example.com/library/etcd:3.5")
	}
	return reference.TagNameOnly(named).String(), nil
}

// Untag removes a name of an image from the store. The image itself goes with
// the next garbage collection, unless another name or a container has it.
func (a *Agent) Untag(ctx context.Context, name string) error {
	st, err := a.openStore()
	if err != nil {
		return hint.Root(err)
	}
	return hint.Root(st.Untag(ctx, name))
}

// Prune removes from the store what no image name, no container and no mount
// needs; a dry run only says how much it is.
func (a *Agent) Prune(ctx context.Context, dryRun bool) (store.GCResult, error) {
	st, err := a.openStore()
	if err != nil {
		return store.GCResult{}, hint.Root(err)
	}
	collect := st.GC
	if dryRun {
		collect = st.Garbage
	}
	res, err := collect(ctx)
	return res, hint.Root(err)
}
