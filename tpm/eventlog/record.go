// SPDX-License-Identifier: Apache-2.0

// Package eventlog reads, replays and exports the log of measured starts,
// /run/log/atomic/tpm2-measure.log.
//
// The log is a JSON text sequence (RFC 7464) in the dialect of the Canonical
// Event Log that systemd writes; what atomic adds is in the object "atomic",
// which has a version field. One record stands for one extend of the register.
// docs/formats/eventlog.md specifies all of it.
//
// The package needs no TPM, no privilege and no clock: a verifier anywhere can
// use it. Logs are untrusted input. Parse accepts what is well formed, Replay
// says whether the records explain each other, and only a comparison with a
// register that a TPM vouched for makes a log believable.
package eventlog

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Version is the version of the object "atomic" that this package writes.
const Version = 1

// ContentType and EventType are what systemd's tools expect in a record that
// they shall show with its text.
const (
	ContentType = "systemd"
	EventType   = "phase"
)

// Record is one record of the log.
type Record struct {
	// PCR is the register that was extended; nil in an unanchored record, that
	// is one which no TPM vouches for.
	PCR *int `json:"pcr,omitempty"`
	// Digests are what each bank was extended with: the hash of Content.String.
	Digests     Register `json:"digests"`
	ContentType string   `json:"content_type"`
	Content     Content  `json:"content"`
	Atomic      Detail   `json:"atomic"`
}

// Content is the measured text and when it was measured. Only String is covered
// by the digests.
type Content struct {
	String string `json:"string"`
	BootID string `json:"bootId"`
	// Timestamp is CLOCK_BOOTTIME in microseconds.
	Timestamp uint64 `json:"timestamp"`
	EventType string `json:"eventType"`
}

// Detail is atomic's own part of a record.
type Detail struct {
	Version int    `json:"version"`
	Seq     uint64 `json:"seq"`
	// Before is the register's value before this record. Only a record that
	// begins a segment has it; everywhere else it is the previous Register.
	Before Register `json:"before,omitempty"`
	// Register is the register's value after this record.
	Register Register `json:"register"`
	// ResetCount is how often the TPM has been reset in its life.
	ResetCount uint32 `json:"resetCount"`
	// InvocationID is systemd's id of the start.
	InvocationID string `json:"invocationId,omitempty"`
	// Recovered says that the writer died after the extend and a later one
	// completed the record from the intent.
	Recovered bool `json:"recovered,omitempty"`
	// Unanchored is why no TPM vouches for this record.
	Unanchored string `json:"unanchored,omitempty"`
}

// Kind is what an event says.
type Kind string

// The kinds of events. Their texts are part of the format: the digest that the
// TPM holds is the hash of the text.
const (
	// Boot separates what the firmware and the boot loader left in the
	// register from what follows. It is constant.
	Boot Kind = "atomic-boot"
	// Start is one start of one container.
	Start Kind = "atomic-start"
	// Gap says that the register had a value the log does not explain.
	Gap Kind = "atomic-gap"
)

// Event is a measured text, taken apart.
type Event struct {
	Kind Kind
	// Name is the container of a Start.
	Name string
	// Algorithm and Digest are the statement's digest of a Start (always
	// sha256) or the unexplained register value of a Gap, in hex.
	Algorithm string
	Digest    string
}

// String returns the text that is measured.
func (e Event) String() string {
	switch e.Kind {
	case Start:
		return string(Start) + ":1:" + e.Name + ":" + e.Algorithm + ":" + e.Digest
	case Gap:
		return string(Gap) + ":1:" + e.Algorithm + ":" + e.Digest
	default:
		return string(e.Kind) + ":1"
	}
}

// BootEvent returns the separator.
func BootEvent() Event { return Event{Kind: Boot} }

// StartEvent returns the event of a start of container name, whose statement
// has the SHA-256 statement in hex.
func StartEvent(name, statement string) Event {
	return Event{Kind: Start, Name: name, Algorithm: "sha256", Digest: statement}
}

// GapEvent returns the event that accepts an unexplained register value.
func GapEvent(found Register) Event {
	d := found.Best()
	return Event{Kind: Gap, Algorithm: d.HashAlg, Digest: d.Digest.String()}
}

// ParseEvent takes a measured text apart. The text of every valid event is
// what its String returns.
func ParseEvent(text string) (Event, error) {
	var e Event
	f := strings.Split(text, ":")
	switch {
	case text == BootEvent().String():
		return BootEvent(), nil
	case len(f) == 5 && f[0] == string(Start) && f[1] == "1":
		e = Event{Kind: Start, Name: f[2], Algorithm: f[3], Digest: f[4]}
		if e.Algorithm != "sha256" {
			return Event{}, fmt.Errorf("event %q: statement digest is not sha256", text)
		}
		if err := CheckName(e.Name); err != nil {
			return Event{}, fmt.Errorf("event %q: %w", text, err)
		}
	case len(f) == 4 && f[0] == string(Gap) && f[1] == "1":
		e = Event{Kind: Gap, Algorithm: f[2], Digest: f[3]}
	default:
		return Event{}, fmt.Errorf("event %q is of no known kind", text)
	}
	d := Digest{HashAlg: e.Algorithm}
	if err := d.Digest.UnmarshalText([]byte(e.Digest)); err != nil {
		return Event{}, fmt.Errorf("event %q: %w", text, err)
	}
	if err := d.check(); err != nil {
		return Event{}, fmt.Errorf("event %q: %w", text, err)
	}
	return e, nil
}

// CheckName says whether name can stand in an event without making it
// ambiguous: 1 to 255 printable ASCII characters but colon and slash.
func CheckName(name string) error {
	if name == "" || len(name) > 255 {
		return fmt.Errorf("container name of %d characters", len(name))
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == ':' || c == '/' {
			return fmt.Errorf("container name %q has a forbidden character", name)
		}
	}
	return nil
}

// Hex is bytes that are lower-case hex in text.
type Hex []byte

// String returns h in hex.
func (h Hex) String() string { return hex.EncodeToString(h) }

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Only one text stands for
// each value, so upper case is refused.
func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("digest is not hex: %w", err)
	}
	if hex.EncodeToString(b) != string(text) {
		return fmt.Errorf("digest %q is not lower case", text)
	}
	*h = b
	return nil
}
