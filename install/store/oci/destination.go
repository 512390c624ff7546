// SPDX-License-Identifier: Apache-2.0

// Package oci lets containers/image copy an image straight into the store.
//
// A Reference is the destination of one copy into one transaction. Layers are
// never kept as blobs: each is decompressed, taken apart and stored as objects
// while it arrives, several layers at a time, and what remains of it is its
// list of entries. After the copy, Image returns the merged image.
//
// Layers are hostile input. Nothing is extracted by path; names, sizes and
// counts are bounded, and what is refused is refused with the entry's name.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/internal/hint"
)

const configMax = 4 << 20

// Reference is a types.ImageReference for one copy into one transaction.
type Reference struct {
	txn    *store.Txn
	name   reference.Named
	verity bool

	mu       sync.Mutex
	manifest string // digest, after the copy
	index    string
}

// NewReference returns the destination for a copy into txn. name is what the
// user asked for; it may be nil.
func NewReference(txn *store.Txn, name reference.Named) *Reference {
	return &Reference{txn: txn, name: name, verity: txn.Store().Verity()}
}

// Image returns the copied image with its layers merged. It is to be called
// after the copy and before the transaction's end.
func (r *Reference) Image() (*store.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.manifest == "" {
		return nil, errors.New("no image has been copied")
	}
	img, err := r.txn.Load(r.manifest)
	if err != nil {
		return nil, err
	}
	img.IndexDigest = r.index
	if err := img.CheckSeal(); err != nil {
		return nil, fmt.Errorf("image %s: %w", r.manifest, err)
	}
	return img, nil
}

type transport struct{}

func (transport) Name() string { return "atomic-store" }
func (transport) ParseReference(string) (types.ImageReference, error) {
	return nil, errors.ErrUnsupported
}
func (transport) ValidatePolicyConfigurationScope(string) error { return nil }

// Transport implements types.ImageReference.
func (r *Reference) Transport() types.ImageTransport { return transport{} }

// StringWithinTransport implements types.ImageReference.
func (r *Reference) StringWithinTransport() string { return r.txn.Store().Dir() }

// DockerReference implements types.ImageReference.
func (r *Reference) DockerReference() reference.Named { return r.name }

// PolicyConfigurationIdentity implements types.ImageReference.
func (r *Reference) PolicyConfigurationIdentity() string { return "" }

// PolicyConfigurationNamespaces implements types.ImageReference.
func (r *Reference) PolicyConfigurationNamespaces() []string { return nil }

// NewImage implements types.ImageReference: the store is no source.
func (r *Reference) NewImage(context.Context, *types.SystemContext) (types.ImageCloser, error) {
	return nil, errors.ErrUnsupported
}

// NewImageSource implements types.ImageReference: the store is no source.
func (r *Reference) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return nil, errors.ErrUnsupported
}

// DeleteImage implements types.ImageReference.
func (r *Reference) DeleteImage(context.Context, *types.SystemContext) error {
	return errors.ErrUnsupported
}

// NewImageDestination implements types.ImageReference.
func (r *Reference) NewImageDestination(context.Context, *types.SystemContext) (types.ImageDestination, error) {
	// An import is a stream: garbage is all there is to collect, and a larger
	// heap would only take memory from the page cache.
	return &destination{ref: r, w: newWriters(r.txn, r.verity), gcPercent: debug.SetGCPercent(25)}, nil
}

// destination implements types.ImageDestination.
type destination struct {
	ref       *Reference
	w         *writers
	gcPercent int
	closed    sync.Once
	pending   string
}

func (d *destination) Reference() types.ImageReference { return d.ref }

func (d *destination) Close() error {
	d.closed.Do(func() {
		d.w.close()
		debug.SetGCPercent(d.gcPercent)
	})
	return nil
}

func (d *destination) SupportedManifestMIMETypes() []string {
	return []string{imgspecv1.MediaTypeImageManifest, manifest.DockerV2Schema2MediaType}
}

// SupportsSignatures refuses: signatures are judged before anything is copied,
// and the verdict is kept in the container's record.
func (d *destination) SupportsSignatures(context.Context) error {
	return errors.New("the store keeps no signatures")
}

func (d *destination) DesiredLayerCompression() types.LayerCompression {
	return types.PreserveOriginal
}
func (d *destination) AcceptsForeignLayerURLs() bool        { return false }
func (d *destination) MustMatchRuntimeOS() bool             { return true }
func (d *destination) IgnoresEmbeddedDockerReference() bool { return true }
func (d *destination) HasThreadSafePutBlob() bool           { return true }

// PutBlob stores a config or takes a layer apart. The caller's reader checks
// the digest when it is read to the end.
func (d *destination) PutBlob(ctx context.Context, r io.Reader, info types.BlobInfo, _ types.BlobInfoCache, isConfig bool) (types.BlobInfo, error) {
	counter := &countingReader{r: r}
	// The caller checks the digest it knows; another is needed only if it
	// knows none.
	var digester digest.Digester
	if !isSHA256(info.Digest) {
		digester = digest.SHA256.Digester()
		counter.r = io.TeeReader(r, digester.Hash())
	}
	var finish func(dgst string) error
	if isConfig {
		b, err := io.ReadAll(io.LimitReader(counter, configMax+1))
		if err != nil {
			return types.BlobInfo{}, fmt.Errorf("read image config: %w", err)
		}
		if len(b) > configMax {
			return types.BlobInfo{}, fmt.Errorf("the image config has more than %d bytes", configMax)
		}
		finish = func(string) error {
			_, err := d.ref.txn.PutConfig(b)
			return err
		}
	} else {
		items, err := readLayer(ctx, counter, &layerSink{w: d.w}, DefaultLimits, d.ref.txn.Charge)
		if err != nil {
			return types.BlobInfo{}, explain(err)
		}
		finish = func(dgst string) error { return d.ref.txn.PutLayer(dgst, items) }
	}
	got := info.Digest
	if digester != nil {
		got = digester.Digest()
	}
	if err := finish(got.String()); err != nil {
		return types.BlobInfo{}, err
	}
	return types.BlobInfo{Digest: got, Size: counter.n, MediaType: info.MediaType}, nil
}

// isSHA256 reports whether d is a proper digest of the only kind that the store
// knows. A Digest from a manifest can be any string.
func isSHA256(d digest.Digest) bool {
	return d.Validate() == nil && d.Algorithm() == digest.SHA256
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// TryReusingBlob finds layers and configs that are in the store completely.
func (d *destination) TryReusingBlob(_ context.Context, info types.BlobInfo, _ types.BlobInfoCache, _ bool) (bool, types.BlobInfo, error) {
	if !isSHA256(info.Digest) {
		return false, types.BlobInfo{}, nil
	}
	if !d.ref.txn.HasConfig(info.Digest.String()) {
		if _, err := d.ref.txn.Layer(info.Digest.String()); err != nil {
			return false, types.BlobInfo{}, nil //nolint:nilerr // what cannot be reused is fetched
		}
	}
	return true, types.BlobInfo{Digest: info.Digest, Size: info.Size, MediaType: info.MediaType}, nil
}

func (d *destination) PutManifest(_ context.Context, b []byte, instance *digest.Digest) error {
	if instance != nil {
		return errors.New("the store takes one image, not a list of them")
	}
	dgst, err := d.ref.txn.PutManifest(b)
	if err != nil {
		return err
	}
	d.pending = dgst
	return nil
}

func (d *destination) PutSignatures(ctx context.Context, signatures [][]byte, _ *digest.Digest) error {
	if len(signatures) > 0 {
		return d.SupportsSignatures(ctx)
	}
	return nil
}

// Commit notes which image was copied; the transaction publishes it.
func (d *destination) Commit(ctx context.Context, top types.UnparsedImage) error {
	if d.pending == "" {
		return errors.New("commit without a manifest")
	}
	index := ""
	if top != nil {
		b, mime, err := top.Manifest(ctx)
		if err != nil {
			return fmt.Errorf("read top-level manifest: %w", err)
		}
		if manifest.MIMETypeIsMultiImage(mime) {
			dgst, err := manifest.Digest(b)
			if err != nil {
				return fmt.Errorf("digest of the image index: %w", err)
			}
			index = dgst.String()
		}
	}
	d.ref.mu.Lock()
	defer d.ref.mu.Unlock()
	d.ref.manifest, d.ref.index = d.pending, index
	return nil
}

// explain is what an image that cannot be stored is to blame for.
func explain(err error) error {
	var entry *EntryError
	if errors.As(err, &entry) && hint.Of(err) == "" {
		return hint.New(err, tree.BadLayerHint)
	}
	return err
}
