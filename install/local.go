// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"

	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
)

// tag remembers the image under its name, with the policy's verdict: signatures
// are the registry's, and the store may be asked for the image without one.
func tag(txn *store.Txn, pulled *image.Image, img *store.Image) error {
	verdict, err := json.Marshal(pulled.Signature)
	if err != nil {
		return err
	}
	return txn.TagVerdict(pulled.Name, img.ManifestDigest, pulled.IndexDigest.String(), verdict)
}

// local finds an image in the store, without its registry. The first candidate
// that is there decides, as it would there.
func (a *Agent) local(txn *store.Txn, policy *trust.Policy, candidates *image.Candidates) (*image.Image, *store.Image, error) {
	for _, c := range candidates.List {
		name := reference.TagNameOnly(c.Name).String()
		info, err := txn.Store().Lookup(name)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		signature, err := localVerdict(policy, c, info)
		if err != nil {
			return nil, nil, err
		}
		img, err := txn.Load(info.ManifestDigest)
		if err != nil {
			return nil, nil, err
		}
		config, err := parseImageConfig(img)
		if err != nil {
			return nil, nil, err
		}
		return &image.Image{
			Name: name, Ref: c.Name, Digest: digest.Digest(img.ManifestDigest), IndexDigest: digest.Digest(info.IndexDigest),
			ConfigDigest: digest.Digest(img.ConfigDigest), Config: *config, Manifest: img.Manifest, Signature: signature,
		}, img, nil
	}
	names := make([]string, len(candidates.List))
	for i, c := range candidates.List {
		names[i] = c.Name.String()
	}
	return nil, nil, hint.New(fmt.Errorf("image %s: %w", strings.Join(names, ", "), store.ErrNotFound), "fetch it with `atomic pull`, or leave out --pull=never")
}

// localVerdict decides about an image whose signatures are not at hand: it may be
// used if the policy wants none, or if this very policy accepted it before.
func localVerdict(policy *trust.Policy, c image.Candidate, info store.ImageInfo) (record.Signature, error) {
	now, err := policy.Verdict(c.Ref)
	if err != nil || policy.AcceptsUnsigned(c.Ref) {
		return now, err
	}
	var before record.Signature
	if len(info.Verdict) > 0 {
		if err := json.Unmarshal(info.Verdict, &before); err != nil {
			return now, fmt.Errorf("image %s: parse verdict: %w", info.Name, err)
		}
	}
	if before.Verdict != "" && !before.Exception && before.PolicySHA256 == now.PolicySHA256 {
		return before, nil
	}
	return now, hint.New(fmt.Errorf("image %s: %w: it was not the policy of today that accepted it", info.Name, trust.ErrRejected),
		"leave out --pull=never, so that the registry is asked for signatures, or accept this one image with --allow-unsigned")
}
