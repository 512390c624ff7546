// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"

	"github.com/atomic-agent/atomic/install/health"
	"github.com/atomic-agent/atomic/install/record"
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
	} else {
		img, err := a.FindImage(what)
		if err != nil {
			return nil, err
		}
		d.Image, d.Digest = img.Name, img.ManifestDigest
	}
	img, done, err := a.loadImage(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	defer done()
	config, err := parseImageConfig(img)
	if err != nil {
		return nil, err
	}
	d.Labels = config.Config.Labels
	exports, err := readExports(img.Tree)
	if err != nil {
		return nil, err
	}
	d.Variables = unitgen.Variables(exports)
	return d, nil
}
