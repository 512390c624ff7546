// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// Snapshot is the log and the register at one moment.
type Snapshot struct {
	// PCR is the register; Register its value in the TPM.
	PCR      int
	Register eventlog.Register
	Records  []eventlog.Record
	// ResetCount is how often the TPM was reset in its life.
	ResetCount uint32
}

// Snapshot reads log and register while no writer is at work, after settling
// what a dead one left. It writes nothing else.
func (m *Measurer) Snapshot(ctx context.Context) (*Snapshot, error) {
	var s *Snapshot
	err := m.locked(ctx, func(w *writer) (err error) {
		s, err = w.snapshot()
		return err
	})
	return s, err
}

func (w *writer) snapshot() (*Snapshot, error) {
	records, err := ReadLog(w.log.Name())
	if err != nil {
		return nil, err
	}
	var banks []string
	if len(records) > 0 && records[0].PCR != nil {
		w.reg.pcr = *records[0].PCR
		banks = records[len(records)-1].Atomic.Register.Banks()
	} else if banks, err = w.reg.banks(); err != nil {
		return nil, err
	}
	s := &Snapshot{PCR: w.reg.pcr, Records: records}
	if s.Register, err = w.reg.read(banks); err != nil {
		return nil, err
	}
	s.ResetCount, err = w.reg.resetCount()
	return s, err
}

// Unanchored returns the starts since boot that could not be measured.
func (m *Measurer) Unanchored() ([]eventlog.Record, error) { return ReadLog(m.unanchoredPath()) }

// ReadLog reads the whole records of a log; a log that does not exist is empty.
func ReadLog(path string) ([]eventlog.Record, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	records, _, err := eventlog.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("read event log %s: %w", path, err)
	}
	return records, nil
}
