// SPDX-License-Identifier: Apache-2.0

// Package trust decides which images may be installed.
//
// The rules are containers-policy.json(5) and are evaluated by
// containers/image, offline, before any layer is read. A host without a policy
// rejects every image. The one way around a policy is an exception for a
// single command; the deployment's record keeps it visible for good.
package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// ErrRejected says that the policy does not allow an image.
var ErrRejected = errors.New("rejected by the signature policy")

// The policy of a host that has none, and that of an exception.
const (
	rejectAll = `{"default":[{"type":"reject"}]}`
	acceptAll = `{"default":[{"type":"insecureAcceptAnything"}]}`
)

// Policy is a host's signature policy.
type Policy struct {
	// File is where the policy was read; empty if the host has none.
	File string
	// Exception says that the administrator overrode the policy.
	Exception bool

	raw    []byte
	policy *signature.Policy
}

// Load reads the host's policy. With exception set, the policy is replaced by
// one that accepts everything.
func Load(host paths.Host, exception bool) (*Policy, error) {
	p := &Policy{Exception: exception, raw: []byte(rejectAll)}
	for _, file := range candidates(host) {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read signature policy: %w", err)
		}
		p.File, p.raw = file, data
		break
	}
	if exception {
		p.raw = []byte(acceptAll)
	}
	var err error
	if p.policy, err = signature.NewPolicyFromBytes(p.raw); err != nil {
		return nil, hint.New(fmt.Errorf("parse signature policy %s: %w", p.File, err), "see containers-policy.json(5)")
	}
	return p, nil
}

func candidates(host paths.Host) []string {
	var files []string
	if env := os.Getenv("CONTAINERS_POLICY_JSON"); env != "" {
		files = append(files, env)
	}
	return append(files, host.Path("/etc/containers/policy.json"), host.Path("/usr/share/containers/policy.json"))
}

// Context returns the policy as containers/image evaluates it. The caller
// destroys it.
func (p *Policy) Context() (*signature.PolicyContext, error) {
	pc, err := signature.NewPolicyContext(p.policy)
	if err != nil {
		return nil, fmt.Errorf("set up signature policy: %w", err)
	}
	return pc, nil
}

// Check decides about one image. A refusal is ErrRejected.
func (p *Policy) Check(ctx context.Context, img types.UnparsedImage) error {
	pc, err := p.Context()
	if err != nil {
		return err
	}
	defer func() { _ = pc.Destroy() }()
	allowed, err := pc.IsRunningImageAllowed(ctx, img)
	if allowed {
		return nil
	}
	return p.Reject(err)
}

// Reject turns a refusal of containers/image into ErrRejected with a hint, and
// returns other errors (of the network, say) as they are.
func (p *Policy) Reject(err error) error {
	var why signature.PolicyRequirementError
	var invalid signature.InvalidSignatureError
	switch {
	case errors.As(err, &why):
		err = fmt.Errorf("%w: %s", ErrRejected, string(why))
	case errors.As(err, &invalid):
		err = fmt.Errorf("%w: %w", ErrRejected, invalid)
	default:
		return err
	}
	if p.File == "" {
		return hint.New(err, "the host has no /etc/containers/policy.json, which rejects everything; "+
			"name the registries and keys you trust there (containers-policy.json(5)), or accept this one image with --allow-unsigned")
	}
	return hint.New(err, "the rules are in "+p.File+" (containers-policy.json(5)); to accept this one image, use --allow-unsigned")
}

// rule is what the verdict needs of a policy requirement.
type rule struct {
	Type     string   `json:"type"`
	KeyPath  string   `json:"keyPath"`
	KeyPaths []string `json:"keyPaths"`
	KeyData  []byte   `json:"keyData"`
	KeyDatas [][]byte `json:"keyDatas"`
}

// Verdict says by which rules the policy accepts an image, for the record.
// Keys given inline are named by the SHA-256 of their data.
func (p *Policy) Verdict(ref types.ImageReference) (record.Signature, error) {
	sum := sha256.Sum256(p.raw)
	v := record.Signature{Verdict: "unsigned", Exception: p.Exception, PolicySHA256: hex.EncodeToString(sum[:])}
	rules, err := p.rules(ref)
	if err != nil {
		return v, err
	}
	for _, r := range rules {
		switch r.Type {
		case SignedBy:
			v.Verdict = "signedBy"
		case SigstoreSigned:
			v.Verdict = "sigstore"
		default:
			continue
		}
		v.Keys = append(v.Keys, r.keys()...)
	}
	slices.Sort(v.Keys)
	return v, nil
}

// AcceptsUnsigned reports whether the policy asks for no signature of an image.
func (p *Policy) AcceptsUnsigned(ref types.ImageReference) bool {
	rules, err := p.rules(ref)
	return err == nil && len(rules) > 0 && !slices.ContainsFunc(rules, func(r rule) bool { return r.Type != Accept })
}

// rules returns what the policy wants of an image, as far as a verdict needs it.
func (p *Policy) rules(ref types.ImageReference) ([]rule, error) {
	data, err := json.Marshal(p.requirements(ref))
	if err != nil {
		return nil, fmt.Errorf("read policy requirements: %w", err)
	}
	var rules []rule
	if err := json.Unmarshal(data, &rules); err != nil {
		return nil, fmt.Errorf("read policy requirements: %w", err)
	}
	return rules, nil
}

func (r rule) keys() []string {
	keys := r.KeyPaths
	if r.KeyPath != "" {
		keys = append(keys, r.KeyPath)
	}
	datas := r.KeyDatas
	if len(r.KeyData) > 0 {
		datas = append(datas, r.KeyData)
	}
	for _, d := range datas {
		sum := sha256.Sum256(d)
		keys = append(keys, "sha256:"+hex.EncodeToString(sum[:]))
	}
	return keys
}

// requirements finds the scope that applies, most specific first, as
// containers-policy.json(5) defines it.
func (p *Policy) requirements(ref types.ImageReference) signature.PolicyRequirements {
	scopes, ok := p.policy.Transports[ref.Transport().Name()]
	if !ok {
		return p.policy.Default
	}
	for _, scope := range append([]string{ref.PolicyConfigurationIdentity()}, ref.PolicyConfigurationNamespaces()...) {
		if r, ok := scopes[scope]; ok && scope != "" {
			return r
		}
	}
	if r, ok := scopes[""]; ok {
		return r
	}
	return p.policy.Default
}
