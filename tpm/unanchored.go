// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"fmt"
	"os"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

func (m *Measurer) unanchoredPath() string { return m.cfg.LogPath + ".unanchored" }

// unanchored notes a start that could not be measured. The notes form a hash
// chain of their own, beside the log whose every record the TPM holds. They
// prove nothing, but they show the administrator what started unmeasured.
func (m *Measurer) unanchored(ctx context.Context, e eventlog.Event, cause error) Record {
	rec := Record{Warning: fmt.Errorf("not measured, starting all the same: %w", cause)}
	known, err := m.note(ctx, e, cause, &rec.Record)
	switch {
	case err != nil:
		rec.Warning = fmt.Errorf("%w (and not noted: %w)", rec.Warning, err)
	case known:
		rec.Warning = nil
	}
	return rec
}

// note appends to the chain, and reports whether the last note has the same
// cause.
func (m *Measurer) note(ctx context.Context, e eventlog.Event, cause error, rec *eventlog.Record) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	log, err := openLog(ctx, m.unanchoredPath())
	if err != nil {
		return false, err
	}
	defer log.Close()
	last, err := log.last()
	if err != nil {
		return false, err
	}
	value, seq, known := eventlog.Zero([]string{"sha256"}), uint64(0), false
	if last != nil {
		value, seq = last.Atomic.Register, last.Atomic.Seq+1
		known = last.Atomic.Unanchored == cause.Error()
	}
	text := e.String()
	digests := value.Measure(text)
	*rec = eventlog.Record{
		Digests:     digests,
		ContentType: eventlog.ContentType,
		Content:     newContent(text),
		Atomic: eventlog.Detail{
			Version:      eventlog.Version,
			Seq:          seq,
			Register:     value.Extend(digests),
			InvocationID: os.Getenv("INVOCATION_ID"),
			Unanchored:   cause.Error(),
		},
	}
	encoded, err := eventlog.Encode(*rec)
	if err != nil {
		return false, err
	}
	return known, log.append(encoded)
}
