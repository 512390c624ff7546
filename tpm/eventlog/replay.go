// SPDX-License-Identifier: Apache-2.0

package eventlog

import "fmt"

// Summary is what a replayed log says.
type Summary struct {
	// PCR is the register of all records; -1 if the log is not anchored.
	PCR int
	// First is the register's value before the first record: zero, or what the
	// boot loader measured, or, if the first record is a gap, unknown history.
	First Register
	// Register is the register's value after the last record.
	Register Register
	// Starts, Gaps and Recovered count records; Resets counts separators after
	// the first, which say that the TPM was reset while the host was running.
	Starts, Gaps, Recovered, Resets int
}

// Replay computes the register from the records alone and checks that they
// explain each other: every digest is that of its text, every value follows
// from the one before, and a new beginning is a separator after a reset of the
// TPM or a gap. The error names the first record that does not hold.
//
// Nothing is proven by a replay: compare Register with the TPM's.
func Replay(records []Record) (*Summary, error) {
	s := &Summary{PCR: -1}
	for i := range records {
		var prev *Record
		if i > 0 {
			prev = &records[i-1]
		}
		if err := s.add(prev, &records[i]); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
	}
	return s, nil
}

func (s *Summary) add(prev, r *Record) error {
	event, err := ParseEvent(r.Content.String)
	if err != nil {
		return err
	}
	if !r.Digests.Equal(r.Digests.Measure(r.Content.String)) {
		return fmt.Errorf("digest is not that of %q", r.Content.String)
	}
	if err := s.begin(prev, r, event); err != nil {
		return err
	}
	if !sameBanks(s.Register, r.Digests) {
		return fmt.Errorf("banks differ from the record before")
	}
	s.Register = s.Register.Extend(r.Digests)
	if !s.Register.Equal(r.Atomic.Register) {
		return fmt.Errorf("register value does not follow from the record before")
	}
	switch event.Kind {
	case Start:
		s.Starts++
	case Gap:
		s.Gaps++
	case Boot:
		if prev != nil {
			s.Resets++
		}
	}
	if r.Atomic.Recovered {
		s.Recovered++
	}
	return nil
}

// begin checks r's place in the log and sets s.Register to the value before r.
func (s *Summary) begin(prev, r *Record, event Event) error {
	a := &r.Atomic
	if prev == nil {
		if a.Seq != 0 {
			return fmt.Errorf("the log begins with number %d", a.Seq)
		}
		if r.PCR != nil {
			s.PCR = *r.PCR
		}
	} else if a.Seq != prev.Atomic.Seq+1 {
		return fmt.Errorf("number %d follows %d", a.Seq, prev.Atomic.Seq)
	} else if (r.PCR == nil) != (prev.PCR == nil) || r.PCR != nil && *r.PCR != *prev.PCR {
		return fmt.Errorf("the log changes its register")
	}
	switch {
	case r.PCR == nil: // a chain of its own, from zero
		if a.Before != nil {
			return fmt.Errorf("an unanchored record cannot begin anew")
		}
		if prev == nil {
			s.Register = Zero(r.Digests.Banks())
			s.First = s.Register
		}
		return nil
	case (event.Kind != Start) != (a.Before != nil):
		return fmt.Errorf("only a separator or a gap has a value before it, and always")
	case event.Kind == Start && prev == nil:
		return fmt.Errorf("the log begins without a separator")
	case event.Kind == Start && a.ResetCount != prev.Atomic.ResetCount:
		return fmt.Errorf("the TPM was reset without a separator")
	case event.Kind == Boot && prev != nil && a.ResetCount == prev.Atomic.ResetCount:
		return fmt.Errorf("a second separator without a reset of the TPM")
	case event.Kind == Gap && event != GapEvent(a.Before):
		return fmt.Errorf("the gap does not name the value it begins with")
	}
	if a.Before != nil {
		s.Register = a.Before
	}
	if prev == nil {
		s.First = s.Register
	}
	return nil
}
