// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

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
