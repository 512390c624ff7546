// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
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
func (m *Measurer) Snapshot(ctx context.Context) (s *Snapshot, err error) {
	if _, err := os.Stat(m.cfg.LogPath); errors.Is(err, fs.ErrNotExist) {
		ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
		defer cancel()
		dev, err := openDevice(ctx, m.cfg.Device)
		if err != nil {
			return nil, err
		}
		defer func() { _ = dev.Close() }()
		return snapshot(register{dev, m.pcr}, nil)
	}
	err = m.locked(ctx, func(w *writer) error {
		records, err := ReadLog(w.log.Name())
		if err != nil {
			return err
		}
		s, err = snapshot(w.reg, records)
		return err
	})
	return s, err
}

func snapshot(reg register, records []eventlog.Record) (*Snapshot, error) {
	var banks []string
	var err error
	if len(records) > 0 && records[0].PCR != nil {
		reg.pcr = *records[0].PCR
		banks = records[len(records)-1].Atomic.Register.Banks()
	} else if banks, err = reg.banks(); err != nil {
		return nil, err
	}
	s := &Snapshot{PCR: reg.pcr, Records: records}
	if s.Register, err = reg.read(banks); err != nil {
		return nil, err
	}
	s.ResetCount, err = reg.resetCount()
	return s, err
}

// Verify replays the log and compares the result with the register. A log
// without a record agrees with every register: nothing was measured.
func (s *Snapshot) Verify() (*eventlog.Summary, error) {
	sum, err := eventlog.Replay(s.Records)
	if err != nil {
		return nil, err
	}
	if len(s.Records) > 0 && !sum.Register.Equal(s.Register) {
		replayed, found := sum.Register.Best(), s.Register.Best()
		return sum, hint.New(
			fmt.Errorf("%w: PCR %d is %s %s, the log gives %s", ErrGap, s.PCR, found.HashAlg, found.Digest, replayed.Digest),
			"something else extended the register, the TPM was reset, or the log was changed; only a reboot gives a clean history")
	}
	return sum, nil
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

// State is how a host's measurement stands, in one word.
type State string

// The states. Whatever is wrong with the records wins over what is wrong with
// the host, because it does not pass.
const (
	// StateOff: nothing is measured, by configuration.
	StateOff State = "off"
	// StateEmpty: nothing was started since boot.
	StateEmpty State = "empty"
	// StateMeasured: the log explains the register, from boot to now.
	StateMeasured State = "measured"
	// StateGap: the log explains the register, but says itself that a part of
	// its history is unknown or that the TPM was reset.
	StateGap State = "gap"
	// StateMismatch: the log does not explain the register.
	StateMismatch State = "mismatch"
	// StateUnmeasured: the host cannot measure.
	StateUnmeasured State = "unmeasured"
)

// Status is how a host's measurement stands.
type Status struct {
	State State `json:"state"`
	// Problem is why the state is not off, empty or measured.
	Problem    string            `json:"problem,omitempty"`
	Mode       conf.Policy       `json:"mode"`
	Device     string            `json:"device"`
	PCR        int               `json:"pcr"`
	Value      eventlog.Register `json:"value,omitempty"`
	ResetCount uint32            `json:"resetCount"`
	Log        string            `json:"log"`
	Starts     int               `json:"starts"`
	Gaps       int               `json:"gaps"`
	Resets     int               `json:"resets"`
	Recovered  int               `json:"recovered"`
	// Unmeasured counts starts since boot that no TPM vouches for.
	Unmeasured int `json:"unmeasured"`
}

// Status says how measurement stands. What is wrong with the TPM or the log is
// part of the answer; the error says that there is no answer.
func (m *Measurer) Status(ctx context.Context) (*Status, error) {
	st := &Status{Mode: m.cfg.Mode, Device: m.cfg.Device, PCR: m.pcr, Log: m.cfg.LogPath}
	notes, err := m.Unanchored()
	if err != nil {
		return nil, err
	}
	st.Unmeasured = len(notes)
	s, err := m.Snapshot(ctx)
	if errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	if err != nil {
		st.State, st.Problem = StateUnmeasured, err.Error()
		if m.cfg.Mode == conf.Off {
			st.State, st.Problem = StateOff, ""
		}
		return st, nil
	}
	st.PCR, st.Value, st.ResetCount = s.PCR, s.Register, s.ResetCount
	sum, err := s.Verify()
	if sum != nil {
		st.Starts, st.Gaps, st.Resets, st.Recovered = sum.Starts, sum.Gaps, sum.Resets, sum.Recovered
	}
	switch {
	case err != nil:
		st.State, st.Problem = StateMismatch, err.Error()
	case st.Gaps > 0:
		st.State, st.Problem = StateGap, "the register had a value that nothing explains"
	case st.Resets > 0:
		st.State, st.Problem = StateGap, "the TPM was reset while the host was running"
	case len(s.Records) > 0:
		st.State = StateMeasured
	case m.cfg.Mode == conf.Off:
		st.State = StateOff
	default:
		st.State = StateEmpty
	}
	return st, nil
}
