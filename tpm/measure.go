// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/tpm/eventlog"
	"github.com/atomic-agent/atomic/tpm/statement"
)

// Start measures one start. It must be called before the payload runs, with
// the digests of exactly what will be used.
//
// If the start may go on the error is nil, and Record.Warning says what could
// not be done. With Mode Off nothing happens at all.
func (m *Measurer) Start(ctx context.Context, s Start) (Record, error) {
	if m.cfg.Mode == conf.Off {
		return Record{}, nil
	}
	body, digest, err := statement.New(s)
	if err != nil {
		return Record{}, fmt.Errorf("measure start: %w", err)
	}
	stored := m.storeStatement(digest, body)
	if stored != nil && m.cfg.Mode == conf.Require {
		return Record{}, fmt.Errorf("measure start of %s: %w", s.Name, stored)
	}
	rec, err := m.event(ctx, eventlog.StartEvent(s.Name, digest))
	if err != nil {
		return Record{}, fmt.Errorf("measure start of %s: %w", s.Name, err)
	}
	rec.Warning = errors.Join(stored, rec.Warning)
	return rec, nil
}

// Enabled reports whether starts are measured at all, so that a caller can save
// the work of describing one.
func (m *Measurer) Enabled() bool { return m.cfg.Mode != conf.Off }

// Acknowledge accepts a register that the log does not explain, for good: the
// gap stays in the log. With Mode Require no start is possible before. It
// reports whether there was anything to accept.
func (m *Measurer) Acknowledge(ctx context.Context) (bool, error) {
	gap := false
	err := m.locked(ctx, func(w *writer) error {
		w.mode = conf.Try // which writes the gap down
		err := w.begin()
		gap = w.gap
		return err
	})
	return gap, err
}

// event measures an event, or notes that it could not be measured.
func (m *Measurer) event(ctx context.Context, e eventlog.Event) (Record, error) {
	rec := Record{Anchored: true}
	err := m.locked(ctx, func(w *writer) error {
		if err := w.begin(); err != nil {
			return err
		}
		err := w.write(e, nil)
		rec.Record = w.last
		return err
	})
	if err == nil {
		return rec, nil
	}
	if m.cfg.Mode == conf.Require || ctx.Err() != nil {
		return Record{}, err
	}
	return m.unanchored(ctx, e, err), nil
}

// locked runs one turn of a writer: with the log's lock and a TPM, and after
// whatever a dead writer left is settled.
func (m *Measurer) locked(ctx context.Context, turn func(*writer) error) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	dev, err := openDevice(ctx, m.cfg.Device)
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }()
	log, err := openLog(ctx, m.cfg.LogPath)
	if err != nil {
		return err
	}
	defer log.Close()
	w := &writer{m: m, mode: m.cfg.Mode, log: log, reg: register{dev, m.pcr}}
	if err := m.settle(log, w.reg); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return turn(w)
}

// writer is one turn at the log.
//
// The protocol: lock the log; settle the intent of a dead writer; read the
// register and compare it with the last record (begin); then, for each record,
// write the intent, extend, append, remove the intent (write).
type writer struct {
	m    *Measurer
	mode conf.Policy
	log  *logFile
	reg  register
	// last is the last record, value the register's value after it.
	last  eventlog.Record
	value eventlog.Register
	// resets is the TPM's reset count, seq the number of the next record.
	resets uint32
	seq    uint64
	// gap says that begin found log and register apart.
	gap bool
}

// begin makes sure that log and register agree: it writes the separator into a
// fresh register and a gap where the register has a value nobody wrote down.
func (w *writer) begin() error {
	last, err := w.log.last()
	if err != nil {
		return err
	}
	if last == nil {
		banks, err := w.reg.banks()
		if err != nil {
			return err
		}
		return w.beginSegment(banks, true)
	}
	if last.PCR == nil {
		return fmt.Errorf("read event log: record %d is not anchored", last.Atomic.Seq)
	}
	w.last, w.seq, w.resets = *last, last.Atomic.Seq+1, last.Atomic.ResetCount
	w.reg.pcr = *last.PCR
	banks := last.Atomic.Register.Banks()
	if w.value, err = w.reg.read(banks); err != nil {
		return err
	}
	if w.value.Equal(last.Atomic.Register) {
		return nil
	}
	return w.beginSegment(banks, false)
}

// beginSegment writes a separator if the register is as the boot left it, in a
// new log or after a reset of the TPM; else a gap.
func (w *writer) beginSegment(banks []string, empty bool) (err error) {
	if w.value, err = w.reg.read(banks); err != nil {
		return err
	}
	resets, err := w.reg.resetCount()
	if err != nil {
		return err
	}
	reset := !empty && resets != w.resets
	w.resets = resets
	clean := (empty || reset) && (w.value.IsZero() || w.m.firmwareExplains(w.reg.pcr, w.value))
	if !clean || !empty {
		w.gap = true
		if w.mode == conf.Require {
			return gapError(w.reg.pcr, reset)
		}
	}
	if clean {
		return w.write(eventlog.BootEvent(), w.value)
	}
	return w.write(eventlog.GapEvent(w.value), w.value)
}

func gapError(pcr int, reset bool) error {
	why := "something else extended it, or the log was lost"
	if reset {
		why = "the TPM was reset while the host was running"
	}
	return hint.New(fmt.Errorf("%w: PCR %d: %s", ErrGap, pcr, why),
		"see `atomic attest status`; reboot, or accept it with `atomic attest ack`")
}

// write extends the register with one event and appends its record. The value
// before is given where a segment begins.
func (w *writer) write(e eventlog.Event, before eventlog.Register) error {
	text := e.String()
	digests := w.value.Measure(text)
	pcr := w.reg.pcr
	rec := eventlog.Record{
		PCR:         &pcr,
		Digests:     digests,
		ContentType: eventlog.ContentType,
		Content:     newContent(text),
		Atomic: eventlog.Detail{
			Version:      eventlog.Version,
			Seq:          w.seq,
			Before:       before,
			Register:     w.value.Extend(digests),
			ResetCount:   w.resets,
			InvocationID: os.Getenv("INVOCATION_ID"),
		},
	}
	encoded, err := eventlog.Encode(rec)
	if err != nil {
		return err
	}
	if err := w.m.writeIntent(intent{intentVersion, w.log.end, rec}); err != nil {
		return err
	}
	w.m.crash("intent")
	if err := w.reg.extend(digests); err != nil {
		return err // the intent stays: only the TPM knows whether it happened
	}
	w.m.crash("extended")
	if err := w.log.append(encoded); err != nil {
		return err // the intent stays and the next writer completes the record
	}
	w.m.crash("appended")
	w.last, w.value, w.seq = rec, rec.Atomic.Register, rec.Atomic.Seq+1
	return w.m.removeIntent()
}

func newContent(text string) eventlog.Content {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // cannot fail for this clock
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return eventlog.Content{
		String:    text,
		BootID:    strings.ReplaceAll(strings.TrimSpace(string(boot)), "-", ""),
		Timestamp: uint64(now.Nano() / 1000),
		EventType: eventlog.EventType,
	}
}
