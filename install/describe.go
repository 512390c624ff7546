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

	"github.com/atomic-agent/atomic/install/health"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// Description is what `info` says about an image and, if a container was
// named, about that.
type Description struct {
	Image     string
	Digest    string
	Labels    map[string]string
	Variables []unitgen.Variable
	Record    *record.Record // of the container, or nil
	// Health is what its health checks have said, if it runs and was asked.
	Health health.State
}

// Describe describes a container, or an image in the store.
func (a *Agent) Describe(ctx context.Context, what string) (*Description, error) {
	rec, err := a.Record(what)
	if err != nil && !errors.Is(err, ErrNotInstalled) {
		return nil, err
	}
	d := &Description{Record: rec}
	if rec != nil {
		d.Image, d.Digest, d.Health = rec.Image, rec.Atomic.ManifestDigest, a.Health(what)
	} else if d.Image, d.Digest, err = a.findImage(what); err != nil {
		return nil, err
	}
	txn, err := a.transaction(ctx)
	if err != nil {
		return nil, err
	}
	defer txn.Abort()
	img, err := txn.Load(d.Digest)
	if err != nil {
		return nil, err
	}
	var config ispec.Image
	if err := json.Unmarshal(img.Config, &config); err != nil {
		return nil, fmt.Errorf("parse image configuration: %w", err)
	}
	d.Labels = config.Config.Labels
	exports, err := readExports(img.Tree)
	if err != nil {
		return nil, err
	}
	d.Variables = unitgen.Variables(exports)
	return d, nil
}

// findImage finds an image in the store by its name, its last component, or
// the beginning of its digest.
func (a *Agent) findImage(what string) (name, digest string, err error) {
	images, err := a.Images()
	if err != nil {
		return "", "", err
	}
	var found []Image
	for _, img := range images {
		if img.Name == what || img.Name == what+":latest" {
			return img.Name, img.ManifestDigest, nil
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
		return "", "", hint.New(fmt.Errorf("no container and no image %q: %w", what, store.ErrNotFound), "atomic pull fetches an image; atomic containers list -a and atomic images list show what is here")
	case 1:
		return found[0].Name, found[0].ManifestDigest, nil
	}
	return "", "", hint.New(fmt.Errorf("Found more than one Image with name %s", what), "write the full name") //nolint:staticcheck // the wording is part of the contract
}
