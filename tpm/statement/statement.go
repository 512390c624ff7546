// SPDX-License-Identifier: Apache-2.0

// Package statement writes and reads start statements: the documents that say
// what one start of a container is, and whose digests are measured.
//
// A statement is an in-toto Statement v1 in canonical JSON (RFC 8785). Equal
// starts have equal bytes; see docs/formats/statement.md. The package is pure.
package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// PredicateType is the in-toto predicate type of a start statement.
const PredicateType = "https://atomic-agent.github.io/start/v1"

// Start is the predicate of a start statement: what one start of a container
// is. It holds nothing that varies between starts of the same deployment, so
// that the register's value can be predicted and bound to.
type Start struct {
	Name      string    `json:"name"`
	Image     Image     `json:"image"`
	Rootfs    Rootfs    `json:"rootfs"`
	Signature Signature `json:"signature"`
	// Config is the SHA-256 in hex of config.json as it is executed.
	Config string `json:"config"`
	// Unit are the unit's fragment and drop-ins in systemd's order.
	Unit []File `json:"unit"`
	// Values is the SHA-256 in hex of the canonical JSON of the values.
	Values string `json:"values"`
	Agent  Agent  `json:"agent"`
	// Runtime is the program that makes the container if the agent does not.
	Runtime *File `json:"runtime,omitempty"`
}

// Image names the image; digests are "sha256:HEX".
type Image struct {
	Ref      string `json:"ref"`
	Manifest string `json:"manifest"`
	Index    string `json:"index,omitempty"`
	Config   string `json:"config"`
}

// Rootfs identifies the root file system; Verity is the fs-verity digest
// of its EROFS image, Enforced says whether the kernel checks the objects, and
// Verify is "start" if otherwise every start does.
type Rootfs struct {
	Type     string `json:"type"`
	Verity   string `json:"verity"`
	Enforced bool   `json:"enforced"`
	Verify   string `json:"verify,omitempty"`
}

// Signature is the verdict of the signature policy at install.
type Signature struct {
	Verdict   string   `json:"verdict"`
	Keys      []string `json:"keys,omitempty"`
	Exception bool     `json:"exception,omitempty"`
	Policy    string   `json:"policy,omitempty"`
}

// File is a file and the SHA-256 of its content in hex.
type File struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Agent identifies the launcher by version and by the SHA-256 in hex of
// its executable.
type Agent struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Type is the type of every statement: in-toto's, version 1.
const Type = "https://in-toto.io/Statement/v1"

// Statement is the in-toto document of one start.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Start     `json:"predicate"`
}

// Subject is what a statement is about: the image's manifest.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// New returns the statement of a start in its canonical form
// (RFC 8785), and the SHA-256 of that in hex. Equal starts have equal bytes.
func New(s Start) (body []byte, digest string, err error) {
	if err := eventlog.CheckName(s.Name); err != nil {
		return nil, "", err
	}
	manifest, ok := strings.CutPrefix(s.Image.Manifest, "sha256:")
	if !ok || len(manifest) != 64 {
		return nil, "", fmt.Errorf("manifest digest %q is not sha256:HEX", s.Image.Manifest)
	}
	if s.Unit == nil {
		s.Unit = []File{}
	}
	body, err = Canonical(Statement{
		Type:          Type,
		Subject:       []Subject{{Name: s.Image.Ref, Digest: map[string]string{"sha256": manifest}}},
		PredicateType: PredicateType,
		Predicate:     s,
	})
	if err != nil {
		return nil, "", fmt.Errorf("encode statement: %w", err)
	}
	sum := sha256.Sum256(body)
	return body, hex.EncodeToString(sum[:]), nil
}

// Parse reads a statement. It must be canonical, hold nothing that
// this version does not know, and its subject must be the predicate's image.
func Parse(body []byte) (*Start, error) {
	var s Statement
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	if s.Type != Type || s.PredicateType != PredicateType {
		return nil, fmt.Errorf("parse statement: %q about %q is of another kind", s.Type, s.PredicateType)
	}
	again, _, err := New(s.Predicate)
	if err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	if !bytes.Equal(again, body) {
		return nil, errors.New("parse statement: not in canonical form")
	}
	return &s.Predicate, nil
}
