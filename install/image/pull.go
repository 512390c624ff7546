// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/trust"
)

// Image is an image that was fetched.
type Image struct {
	// Name is fully qualified, with tag or digest; Ref is the same, parsed.
	Name string
	Ref  reference.Named
	// Digest is that of the manifest for this architecture, IndexDigest that
	// of the index the name stands for, if it is one.
	Digest      digest.Digest
	IndexDigest digest.Digest
	// ConfigDigest is the digest of the image configuration Config.
	ConfigDigest digest.Digest
	Config       ispec.Image
	// Manifest is the raw manifest for this architecture.
	Manifest []byte
	// Signature is the verdict of the policy.
	Signature record.Signature
}

// Puller fetches images.
type Puller struct {
	System   *types.SystemContext
	Policy   *trust.Policy
	Progress Progress
}

// Inspect looks an image up without fetching its layers: name, digests,
// configuration and the policy's verdict. It tries the candidates in order.
func (p *Puller) Inspect(ctx context.Context, c *Candidates) (*Image, error) {
	img, _, err := p.first(ctx, c)
	return img, err
}

// Pull fetches the first candidate that exists into the destination that dest
// returns for it. Nothing is fetched that the policy rejects or that is for
// another architecture.
func (p *Puller) Pull(ctx context.Context, c *Candidates, dest func(*Image) (types.ImageReference, error)) (*Image, error) {
	img, candidate, err := p.first(ctx, c)
	if err != nil {
		return nil, err
	}
	ref, err := dest(img)
	if err != nil {
		return nil, err
	}
	if err := p.copy(ctx, candidate, img, ref); err != nil {
		return nil, p.classify(candidate.Name.String(), err)
	}
	return img, nil
}

func (p *Puller) first(ctx context.Context, c *Candidates) (*Image, *Candidate, error) {
	var failed []error
	for i := range c.List {
		candidate := &c.List[i]
		img, err := p.inspect(ctx, candidate)
		if err == nil {
			return img, candidate, nil
		}
		failed = append(failed, p.classify(candidate.Name.String(), err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, nil, allFailed(failed)
}

func (p *Puller) inspect(ctx context.Context, c *Candidate) (_ *Image, err error) {
	src, err := c.Ref.NewImageSource(ctx, p.System)
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }()

	top := image.UnparsedInstance(src, nil)
	if err := p.Policy.Check(ctx, top); err != nil {
		return nil, err
	}
	raw, mime, err := top.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	img := &Image{Name: c.Name.String(), Ref: c.Name}
	unparsed := top
	if manifest.MIMETypeIsMultiImage(mime) {
		if img.IndexDigest, err = manifest.Digest(raw); err != nil {
			return nil, err
		}
		list, err := manifest.ListFromBlob(raw, mime)
		if err != nil {
			return nil, fmt.Errorf("parse image index: %w", err)
		}
		instance, err := list.ChooseInstance(p.System)
		if err != nil {
			return nil, &architectureError{want: p.architecture(), err: err}
		}
		unparsed = image.UnparsedInstance(src, &instance)
		if err := p.Policy.Check(ctx, unparsed); err != nil {
			return nil, err
		}
	}
	if err := p.readConfig(ctx, img, unparsed); err != nil {
		return nil, err
	}
	img.Signature, err = p.Policy.Verdict(c.Ref)
	return img, err
}

func (p *Puller) readConfig(ctx context.Context, img *Image, unparsed *image.UnparsedImage) error {
	parsed, err := image.FromUnparsedImage(ctx, p.System, unparsed)
	if err != nil {
		return err
	}
	if img.Manifest, _, err = parsed.Manifest(ctx); err != nil {
		return err
	}
	if img.Digest, err = manifest.Digest(img.Manifest); err != nil {
		return err
	}
	img.ConfigDigest = parsed.ConfigInfo().Digest
	blob, err := parsed.ConfigBlob(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(blob, &img.Config); err != nil {
		return fmt.Errorf("parse image configuration: %w", err)
	}
	if got := img.Config.OS; got != "" && got != "linux" {
		return &architectureError{want: "linux", got: got}
	}
	if got := img.Config.Architecture; got != "" && got != p.architecture() {
		return &architectureError{want: p.architecture(), got: got}
	}
	return nil
}

func (p *Puller) architecture() string {
	if p.System.ArchitectureChoice != "" {
		return p.System.ArchitectureChoice
	}
	return runtime.GOARCH
}

func (p *Puller) copy(ctx context.Context, c *Candidate, img *Image, dest types.ImageReference) error {
	pc, err := p.Policy.Context()
	if err != nil {
		return err
	}
	defer func() { _ = pc.Destroy() }()

	opts := &copy.Options{SourceCtx: p.System, DestinationCtx: p.System, RemoveSignatures: true, PreserveDigests: true}
	if p.Progress != nil {
		done := p.report(opts)
		defer done()
	}
	raw, err := copy.Image(ctx, pc, dest, c.Ref, opts)
	if err != nil {
		return err
	}
	got, err := manifest.Digest(raw)
	if err != nil {
		return err
	}
	if got != img.Digest {
		return &changedError{before: img.Digest, after: got}
	}
	return nil
}

// report passes the copy's events to the progress display; the function it
// returns waits until the last one is shown.
func (p *Puller) report(opts *copy.Options) (done func()) {
	events := make(chan types.ProgressProperties)
	opts.Progress, opts.ProgressInterval = events, 100*time.Millisecond
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for ev := range events {
			p.Progress.Event(ev)
		}
	}()
	return func() {
		close(events)
		<-finished
		p.Progress.Close()
	}
}
