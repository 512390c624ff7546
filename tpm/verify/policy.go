// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Policy says which starts are acceptable. What it does not name is not.
type Policy struct {
	Version int `json:"version"`
	// Containers are the rules by container name. A start needs a rule.
	Containers map[string]Rule `json:"containers"`
}

// Rule is what the starts of one container must be. A list that is empty or
// absent restricts nothing.
type Rule struct {
	// Manifests are the allowed image manifests, "sha256:HEX".
	Manifests []string `json:"manifests,omitempty"`
	// Statements are the allowed statements by digest in hex: exactly these
	// images, configurations, units and launchers.
	Statements []string `json:"statements,omitempty"`
	// Signed demands that the host's signature policy accepted the image, and
	// that the administrator made no exception.
	Signed bool `json:"signed,omitempty"`
	// Enforced demands that the kernel checks the root file system.
	Enforced bool `json:"enforced,omitempty"`
}

// ParsePolicy reads a policy. An unknown key is an error: it may be a
// restriction that we would not make.
func ParsePolicy(data []byte) (*Policy, error) {
	var p Policy
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("parse attestation policy: %w", err)
	}
	if p.Version != 1 {
		return nil, fmt.Errorf("parse attestation policy: version %d is not known here", p.Version)
	}
	return &p, nil
}

// check returns every violation once.
func (p *Policy) check(starts []Start) error {
	var problems []error
	seen := map[string]bool{}
	for _, s := range starts {
		if seen[s.Digest] {
			continue
		}
		seen[s.Digest] = true
		rule, ok := p.Containers[s.Name]
		if !ok {
			problems = append(problems, fmt.Errorf("%s: not in the policy", s.Name))
			continue
		}
		for _, problem := range rule.check(s) {
			problems = append(problems, fmt.Errorf("%s: %s", s.Name, problem))
		}
	}
	return errors.Join(problems...)
}

func (r Rule) check(s Start) []string {
	var problems []string
	st := s.Statement
	if len(r.Manifests) > 0 && !slices.Contains(r.Manifests, st.Image.Manifest) {
		problems = append(problems, fmt.Sprintf("image %s is not allowed", st.Image.Manifest))
	}
	if len(r.Statements) > 0 && !slices.Contains(r.Statements, s.Digest) {
		problems = append(problems, fmt.Sprintf("statement %s is not allowed", s.Digest))
	}
	if r.Signed && (st.Signature.Verdict == "" || st.Signature.Verdict == "unsigned" || st.Signature.Exception) {
		problems = append(problems, "the image was not accepted by a signature")
	}
	if r.Enforced && !st.Rootfs.Enforced {
		problems = append(problems, "the kernel does not check the root file system")
	}
	return problems
}
