// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gowebpki/jcs"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// StatementType is the type of every statement: in-toto's, version 1.
const StatementType = "https://in-toto.io/Statement/v1"

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

// NewStatement returns the statement of a start in its canonical form
// (RFC 8785), and the SHA-256 of that in hex. Equal starts have equal bytes.
func NewStatement(s Start) (body []byte, digest string, err error) {
	if err := eventlog.CheckName(s.Name); err != nil {
		return nil, "", err
	}
	manifest, ok := strings.CutPrefix(s.Image.Manifest, "sha256:")
	if !ok || len(manifest) != 64 {
		return nil, "", fmt.Errorf("manifest digest %q is not sha256:HEX", s.Image.Manifest)
	}
	if s.Unit == nil {
		s.Unit = []StartFile{}
	}
	raw, err := json.Marshal(Statement{
		Type:          StatementType,
		Subject:       []Subject{{Name: s.Image.Ref, Digest: map[string]string{"sha256": manifest}}},
		PredicateType: PredicateType,
		Predicate:     s,
	})
	if err != nil {
		return nil, "", fmt.Errorf("encode statement: %w", err)
	}
	body, err = jcs.Transform(raw)
	if err != nil {
		return nil, "", fmt.Errorf("canonicalise statement: %w", err)
	}
	sum := sha256.Sum256(body)
	return body, hex.EncodeToString(sum[:]), nil
}

// ParseStatement reads a statement. It must be canonical, hold nothing that
// this version does not know, and its subject must be the predicate's image.
func ParseStatement(body []byte) (*Start, error) {
	var s Statement
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	if s.Type != StatementType || s.PredicateType != PredicateType {
		return nil, fmt.Errorf("parse statement: %q about %q is of another kind", s.Type, s.PredicateType)
	}
	again, _, err := NewStatement(s.Predicate)
	if err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	if !bytes.Equal(again, body) {
		return nil, errors.New("parse statement: not in canonical form")
	}
	return &s.Predicate, nil
}

// storeStatement keeps a statement under its digest. Restarts find it there.
func (m *Measurer) storeStatement(digest string, body []byte) error {
	err := putStatement(m.cfg.StatementDir, digest, body)
	if err != nil && m.cfg.StatementFallback != "" {
		err = putStatement(m.cfg.StatementFallback, digest, body)
	}
	if err != nil {
		return fmt.Errorf("store statement: %w", err)
	}
	return nil
}

// putStatement compares before it writes, so there is no need for an fsync
// that would cost every first start milliseconds: a file that a power cut left
// short is written again by the next start.
func putStatement(dir, digest string, body []byte) error {
	name := filepath.Join(dir, digest+".json")
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, body) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// LoadStatement returns a stored statement by its digest. Files whose content
// does not have that digest count as absent.
func (m *Measurer) LoadStatement(digest string) ([]byte, error) {
	for _, dir := range []string{m.cfg.StatementDir, m.cfg.StatementFallback} {
		if dir == "" {
			continue
		}
		body, err := os.ReadFile(filepath.Join(dir, filepath.Base(digest)+".json"))
		if err != nil {
			continue
		}
		if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) == digest {
			return body, nil
		}
	}
	return nil, fmt.Errorf("statement %s: %w", digest, fs.ErrNotExist)
}
