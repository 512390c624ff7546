// SPDX-License-Identifier: Apache-2.0

// Package tpm records every start of a container in the host's TPM.
//
// One start is one extend of a register, PCR 8 by default, with the text
//
//	atomic-start:1:NAME:sha256:HEX
//
// where HEX is the digest of a statement: a canonical in-toto document that
// says which image, configuration and units this start is of. A statement holds
// nothing that varies between starts, so the register's value can be predicted.
// What was extended stands in a log, which package eventlog reads; a replay of
// the log gives the register's value.
//
// There is no daemon. Writers in any number of processes take turns on the
// log's lock, and each writes an intent before it extends. A writer may be
// killed at any moment: the next one asks the TPM whether the extend happened
// and completes or forgets it, so log and register never part. See measure.go
// for the protocol.
//
// The package logs nothing and keeps no state between calls. Everything that
// varies from host to host is in Config.
package tpm

import (
	"errors"
	"fmt"
	"time"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// Errors that callers can tell apart. With Mode Try they do not stop a start
// but are found in Record.Warning.
var (
	// ErrNoTPM is returned where there is no TPM 2.0, or none we may use.
	ErrNoTPM = errors.New("no usable TPM")
	// ErrBusy is returned when the TPM or the log was not free in time.
	ErrBusy = errors.New("TPM is busy")
	// ErrGap is returned when the register has a value that the log does not
	// explain.
	ErrGap = errors.New("register does not match the event log")
)

// DefaultTimeout is how long one measurement may take. A TPM that tests itself
// can block for ten seconds.
const DefaultTimeout = 10 * time.Second

// DefaultDevice is the kernel's resource manager for the first TPM.
const DefaultDevice = "/dev/tpmrm0"

// Config says what is measured how. Mode, Register, LogPath and StatementDir
// must be set; see FromHost.
type Config struct {
	// Mode says what happens to a start that cannot be measured.
	Mode conf.Policy
	// Register is "pcr:N". A log that exists decides over it: the register of
	// a host changes at boot only.
	Register string
	// Device is a character device, or "unix:/path" for the data socket of an
	// emulator; empty means DefaultDevice.
	Device string
	// Timeout limits one measurement; zero means DefaultTimeout.
	Timeout time.Duration
	// LogPath is the event log. The intent (LogPath+".intent") and the chain
	// of starts that were not measured (LogPath+".unanchored") lie beside it.
	LogPath string
	// StatementDir holds the statements by digest. What cannot be written
	// there goes to StatementFallback.
	StatementDir, StatementFallback string
	// FirmwareLog is what explains a register that is not zero at boot; empty
	// if there is nothing.
	FirmwareLog string
}

// FromHost returns the configuration of a host. A deployment may override the
// mode; mode is empty if it does not.
func FromHost(host paths.Host, c conf.TPM, mode string) Config {
	cfg := Config{
		Mode:              c.Measure,
		Register:          c.Register,
		Device:            c.Device,
		LogPath:           host.EventLog(),
		StatementDir:      host.Statements(),
		StatementFallback: host.StatementsEarly(),
		FirmwareLog:       host.FirmwareLog(),
	}
	if mode != "" {
		cfg.Mode = conf.Policy(mode)
	}
	return cfg
}

// Measurer measures starts. It may be used by several goroutines.
type Measurer struct {
	cfg Config
	pcr int
	// crash is called at every step of the protocol; tests die there.
	crash func(step string)
}

// Open checks the configuration. It touches neither the TPM nor the disk: the
// first measurement does.
func Open(cfg Config) (*Measurer, error) {
	switch cfg.Mode {
	case conf.Off, conf.Try, conf.Require:
	default:
		return nil, fmt.Errorf("measurement mode %q is not off, try or require", cfg.Mode)
	}
	pcr, err := conf.ParseRegister(cfg.Register)
	if err != nil {
		return nil, fmt.Errorf("register %q: %w", cfg.Register, err)
	}
	if cfg.LogPath == "" || cfg.StatementDir == "" {
		return nil, errors.New("measurement needs a log and a directory for statements")
	}
	if cfg.Device == "" {
		cfg.Device = DefaultDevice
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	return &Measurer{cfg: cfg, pcr: pcr, crash: func(string) {}}, nil
}

// Record is what was written about one start.
type Record struct {
	eventlog.Record
	// Anchored says that the TPM holds the record.
	Anchored bool
	// Warning is what went wrong although the start may go on, or nil. A host
	// without a TPM warns once per boot, not at every start.
	Warning error
}

func noTPM(err error) error {
	return hint.New(fmt.Errorf("%w: %w", ErrNoTPM, err),
		"enable the TPM in the firmware, or set Measure=try in section [TPM] of /etc/atomic/atomic.conf")
}

func busy(what string, err error) error {
	return hint.New(fmt.Errorf("%w: %s: %w", ErrBusy, what, err),
		"another program may hold it: look with fuser -v /dev/tpm0 /dev/tpmrm0 /run/log/atomic/tpm2-measure.log")
}
