// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/atomic-agent/atomic/install/store/erofs"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// The annotations of a sealed image (composefs): the publisher's digests of the
// merged file system, in the manifest, and of the configuration, in its
// descriptor. Digests with other parameters than ours cannot be compared and
// are passed over.
const (
	sealMerged = "composefs.merged.erofs.v1.fsverity-sha256-12"
	sealConfig = "composefs.config.fsverity-sha256-12"
)

// ErrSeal is returned for an image that is not what its publisher sealed.
var ErrSeal = errors.New("the image is not the one that was sealed")

// CheckSeal compares an image with the digests that its manifest gives for it.
// An image without any passes.
func (img *Image) CheckSeal() error {
	var m struct {
		Annotations map[string]string `json:"annotations"`
		Config      struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"config"`
	}
	if err := json.Unmarshal(img.Manifest, &m); err != nil {
		return fmt.Errorf("parse manifest: %w", err)
	}
	if want, ok := m.Config.Annotations[sealConfig]; ok {
		if err := compareSeal(sealConfig, want, verity.Of(img.Config)); err != nil {
			return err
		}
	}
	want, ok := m.Annotations[sealMerged]
	if !ok {
		return nil
	}
	var h verity.Hasher
	if err := erofs.Write(&h, sealedTree(img.Tree), 1); err != nil {
		return err
	}
	return compareSeal(sealMerged, want, h.Sum())
}

func compareSeal(annotation, want string, got verity.Digest) error {
	if got.String() == want {
		return nil
	}
	return hint.New(fmt.Errorf("%w: its digest is %s, the manifest says %s=%q", ErrSeal, got, annotation, want),
		"the image was changed after it was sealed, or sealed by a tool that disagrees with composefs; ask its publisher")
}

// sealedTree returns what composefs seals of an image: the root directory looks
// like /usr, because archives do not agree about it; /run is empty; and of
// extended attributes only capabilities count.
func sealedTree(t *tree.Tree) *tree.Tree {
	clones := map[*tree.Node]*tree.Node{}
	var clone func(n *tree.Node) *tree.Node
	clone = func(n *tree.Node) *tree.Node {
		if c := clones[n]; c != nil {
			return c
		}
		c := *n
		c.Xattrs, c.Children = nil, nil
		for _, x := range n.Xattrs {
			if x.Name == "security.capability" {
				c.Xattrs = append(c.Xattrs, x)
			}
		}
		if !n.IsDir() {
			clones[n] = &c
		}
		for _, ch := range n.Children {
			c.Children = append(c.Children, tree.Child{Name: ch.Name, Node: clone(ch.Node)})
		}
		return &c
	}
	sealed := &tree.Tree{Root: clone(t.Root)}
	if usr := sealed.Root.Child("usr"); usr != nil && usr.IsDir() {
		children := sealed.Root.Children
		*sealed.Root = *usr
		sealed.Root.Children = children
		if run := sealed.Root.Child("run"); run != nil && run.IsDir() {
			run.Children = nil
			run.Sec, run.Nsec = usr.Sec, usr.Nsec
		}
	}
	sealed.CountLinks()
	return sealed
}
