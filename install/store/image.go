// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/atomic-agent/atomic/install/store/dump"
	"github.com/atomic-agent/atomic/install/store/erofs"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// Limits of the small objects, far above what is in use.
const (
	manifestMax  = 4 << 20
	layerListMax = 512 << 20
)

// layerHeader is the first line of a layer list, with its version.
const layerHeader = "atomic-layer 1\n"

// Image is an OCI image with its layers merged.
type Image struct {
	// Manifest and Config are the exact bytes their digests are of.
	Manifest, Config []byte
	// ManifestDigest and ConfigDigest are "sha256:HEX".
	ManifestDigest, ConfigDigest string
	// IndexDigest is the digest of the image index that the reference named,
	// if it named one and the image has just been pulled.
	IndexDigest string
	// Layers are the blob digests, bottom first; Size is their size together.
	Layers []string
	Size   int64
	// Tree is the root file system. The caller owns it.
	Tree *tree.Tree
}

// manifest is the part of an OCI image manifest, or of a Docker v2s2 manifest,
// that the store reads.
type manifest struct {
	Config descriptor   `json:"config"`
	Layers []descriptor `json:"layers"`
}

type descriptor struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

func parseManifest(b []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	for _, d := range append([]descriptor{m.Config}, m.Layers...) {
		if err := checkDigest(d.Digest); err != nil {
			return nil, fmt.Errorf("parse manifest: %w", err)
		}
	}
	return &m, nil
}

// checkDigest refuses everything that is not "sha256:" and 64 hex digits: a
// digest is also a file name here.
func checkDigest(s string) error {
	h, ok := strings.CutPrefix(s, "sha256:")
	if _, err := verity.Parse(h); !ok || err != nil {
		return fmt.Errorf("%q is not a sha256 digest", s)
	}
	return nil
}

func sha256Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// PutManifest stores a manifest and returns its digest.
func (t *Txn) PutManifest(b []byte) (string, error) { return t.putBlob("manifests", b) }

// PutConfig stores an image config and returns its digest.
func (t *Txn) PutConfig(b []byte) (string, error) { return t.putBlob("configs", b) }

func (t *Txn) putBlob(dir string, b []byte) (string, error) {
	if len(b) > manifestMax {
		return "", fmt.Errorf("%d bytes are too many for one of %s", len(b), dir)
	}
	d, err := t.PutObject(b)
	if err != nil {
		return "", err
	}
	digest := sha256Digest(b)
	t.link(dir, digest, d)
	return digest, nil
}

// readBlob returns a manifest or config, checked against its digest.
func (t *Txn) readBlob(dir, digest string) ([]byte, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	d, err := t.lookup(dir, digest)
	if err != nil {
		return nil, err
	}
	f, err := t.OpenObject(d)
	if err != nil {
		return nil, err
	}
	b, err := readAll(f, d, manifestMax)
	if err != nil {
		return nil, err
	}
	if sha256Digest(b) != digest {
		return nil, fmt.Errorf("%s/%s: %w", dir, digest, ErrCorrupt)
	}
	return b, nil
}

// HasConfig reports whether the config is in the store.
func (t *Txn) HasConfig(digest string) bool {
	_, err := t.readBlob("configs", digest)
	return err == nil
}

// PutLayer stores what a layer blob consists of. Its objects must have been
// put by this transaction or be in the store.
func (t *Txn) PutLayer(digest string, items []tree.Item) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	w, err := t.NewObject(0)
	if err != nil {
		return err
	}
	defer w.Discard()
	enc, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return fmt.Errorf("write layer list: %w", err)
	}
	buf := append(make([]byte, 0, 128<<10), layerHeader...)
	for i := range items {
		if buf = dump.Append(buf, &items[i]); len(buf) > 64<<10 {
			if _, err := enc.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	if _, err := enc.Write(buf); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	d, err := w.Finish()
	if err != nil {
		return err
	}
	t.link("layers", digest, d)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.layers[digest] = items
	return nil
}

// Layer returns the entries of a layer that is in the store with all of its
// objects; ErrNotFound if it is not, or not completely.
func (t *Txn) Layer(digest string) ([]tree.Item, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	t.mu.Lock()
	items, ok := t.layers[digest]
	t.mu.Unlock()
	if ok {
		return items, nil
	}
	items, err := t.readLayer(digest)
	if err != nil {
		return nil, err
	}
	for i := range items {
		if n := items[i].Node; n != nil && n.Source == tree.SourceObject && !t.has(n.Digest, int64(n.Size)) {
			return nil, fmt.Errorf("object %s of layer %s: %w", n.Digest, digest, ErrNotFound)
		}
	}
	for i := range items {
		if err := t.Charge(&items[i]); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.layers[digest] = items
	return items, nil
}

// Charge counts the memory that an entry of the transaction's image takes until
// the end; ErrMetadata if that is too much. An image can have any number of
// entries, names, links and attributes, and all of them are in memory at once.
func (t *Txn) Charge(it *tree.Item) error {
	if t.charged.Add(it.Memory()) <= t.s.maxMetadata {
		return nil
	}
	return hint.New(fmt.Errorf("%w: more than %d MiB in memory", ErrMetadata, t.s.maxMetadata>>20),
		"if it is meant to be that large, raise MaxMetadata= in the [Store] section of /etc/atomic/atomic.conf")
}

// layer reads the list of a layer that is in the store.
func (s *Store) layer(digest string) ([]tree.Item, error) {
	return (&Txn{s: s}).readLayer(digest)
}

// readLayer reads a layer list.
func (t *Txn) readLayer(digest string) ([]tree.Item, error) {
	d, err := t.lookup("layers", digest)
	if err != nil {
		return nil, err
	}
	f, err := t.OpenObject(d)
	if err != nil {
		return nil, err
	}
	b, err := readAll(f, d, layerListMax)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("layer list %s: %w", digest, err)
	}
	defer dec.Close()
	header := make([]byte, len(layerHeader))
	if _, err := io.ReadFull(dec, header); err != nil || string(header) != layerHeader {
		return nil, fmt.Errorf("layer list %s: unknown format: %w", digest, ErrCorrupt)
	}
	var items []tree.Item
	err = dump.Lines(dec, func(it *tree.Item) error {
		if _, _, _, ok := it.Whiteout(); ok {
			it.Node = nil
		}
		items = append(items, *it)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("layer list %s: %w: %w", digest, ErrCorrupt, err)
	}
	return items, nil
}

// Load returns an image whose manifest, config and layers are in the store or
// have been put by this transaction. Nothing is fetched: ErrNotFound says that
// the image must be pulled.
func (t *Txn) Load(manifestDigest string) (*Image, error) {
	t.flush() // while the image is made of them, the layers' objects get to the disk
	img := &Image{ManifestDigest: manifestDigest}
	var err error
	if img.Manifest, err = t.readBlob("manifests", manifestDigest); err != nil {
		return nil, fmt.Errorf("load image %s: %w", manifestDigest, t.s.explain(err))
	}
	m, err := parseManifest(img.Manifest)
	if err != nil {
		return nil, fmt.Errorf("load image %s: %w", manifestDigest, err)
	}
	img.ConfigDigest = m.Config.Digest
	if img.Config, err = t.readBlob("configs", img.ConfigDigest); err != nil {
		return nil, fmt.Errorf("load image %s: %w", manifestDigest, t.s.explain(err))
	}
	img.Tree = tree.New()
	img.Tree.OpenObject = t.OpenObject
	for _, l := range m.Layers {
		items, err := t.Layer(l.Digest)
		if err != nil {
			return nil, fmt.Errorf("load image %s: %w", manifestDigest, t.s.explain(err))
		}
		if err := img.Tree.Apply(items); err != nil {
			return nil, fmt.Errorf("load image %s: layer %s: %w", manifestDigest, l.Digest, err)
		}
		// The tree has what it needs of the list; the rest is only memory.
		t.mu.Lock()
		delete(t.layers, l.Digest)
		t.mu.Unlock()
		img.Layers = append(img.Layers, l.Digest)
		img.Size += l.Size
	}
	return img, nil
}

// PutImage writes the file system image of t and returns its fs-verity digest,
// 64 hex digits: the identity of the root file system.
func (t *Txn) PutImage(root *tree.Tree) (string, error) {
	root.CountLinks()
	w, err := t.NewObject(0)
	if err != nil {
		return "", fmt.Errorf("put image: %w", err)
	}
	if err := erofs.Write(w, root, erofs.Version); err != nil {
		w.Discard()
		return "", err
	}
	d, err := w.Finish()
	if err != nil {
		return "", fmt.Errorf("put image: %w", err)
	}
	t.link("images", d.String(), d)
	return d.String(), nil
}

// IsNotFound reports whether err says that something has to be pulled first.
func IsNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
