// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// intent is what a writer is about to do. It is on disk, whole, before the
// extend, and gone after the record is in the log.
type intent struct {
	Version int `json:"version"`
	// Offset is the log's length, where the record goes.
	Offset int64 `json:"offset"`
	// Record is complete, the register's value after the extend included.
	Record eventlog.Record `json:"record"`
}

const intentVersion = 1

func (m *Measurer) intentPath() string { return m.cfg.LogPath + ".intent" }

func (m *Measurer) writeIntent(in intent) error {
	data, err := json.Marshal(in)
	if err == nil {
		err = writeDurably(m.intentPath(), data)
	}
	if err != nil {
		return fmt.Errorf("write intent: %w", err)
	}
	return nil
}

func writeDurably(path string, data []byte) error {
	tmp := path + ".new" // the log's lock is ours, so no one else uses this name
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (m *Measurer) removeIntent() error {
	if err := os.Remove(m.intentPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove intent: %w", err)
	}
	return nil
}

// settle finishes what a writer left that died between its intent and its end.
// Only the TPM knows how far it came:
//
//	register == value after the record    it did extend: the record is completed
//	anything else                         it did not: the record is forgotten
//
// If others extended the register since, begin will notice.
// In every case the record is kept if it is in the log as a whole, so that a
// reset of the TPM in between cannot make us forget what once was true.
func (m *Measurer) settle(log *logFile, reg register) error {
	data, err := os.ReadFile(m.intentPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read intent: %w", err)
	}
	var in intent
	// An intent that we cannot read tells nothing; a register that the log
	// does not explain will be noticed all the same.
	if json.Unmarshal(data, &in) != nil || in.Version != intentVersion ||
		in.Record.Check() != nil || in.Record.PCR == nil || in.Offset > log.end {
		return m.removeIntent()
	}
	whole, err := log.holds(in)
	if err != nil {
		return err
	}
	if whole {
		return m.removeIntent()
	}
	if err := log.cut(in.Offset); err != nil {
		return err
	}
	reg.pcr = *in.Record.PCR
	value, err := reg.read(in.Record.Digests.Banks())
	if err != nil {
		return err
	}
	if value.Equal(in.Record.Atomic.Register) {
		in.Record.Atomic.Recovered = true
		encoded, err := eventlog.Encode(in.Record)
		if err != nil {
			return err
		}
		if err := log.append(encoded); err != nil {
			return err
		}
	}
	m.crash("settled")
	return m.removeIntent()
}

// holds reports whether the intent's record is whole in the log at its place.
func (l *logFile) holds(in intent) (bool, error) {
	if l.end <= in.Offset {
		return false, nil
	}
	tail := make([]byte, min(l.end-in.Offset, eventlog.MaxRecord))
	if _, err := l.ReadAt(tail, in.Offset); err != nil {
		return false, fmt.Errorf("read event log: %w", err)
	}
	for _, recovered := range []bool{false, true} {
		in.Record.Atomic.Recovered = recovered
		encoded, err := eventlog.Encode(in.Record)
		if err != nil {
			return false, err
		}
		if bytes.Equal(tail, encoded) {
			return true, nil
		}
	}
	return false, nil
}
