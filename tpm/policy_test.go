// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/tpm/eventlog"
	"github.com/atomic-agent/atomic/tpm/tpmtest"
)

func TestModeOff(t *testing.T) {
	cfg := testConfig(t, "/nonexistent", conf.Off)
	rec, err := open(t, cfg).Start(t.Context(), example("a"))
	if err != nil || rec.Anchored || rec.Warning != nil {
		t.Errorf("%+v, %v", rec, err)
	}
	if _, err := os.Stat(filepath.Dir(cfg.LogPath)); err == nil {
		t.Error("something was written")
	}
}

// Each case is a host on which a start cannot be measured.
func TestCannotMeasure(t *testing.T) {
	tests := []struct {
		name  string
		setup func(t *testing.T, cfg *Config)
		is    error // nil: any
	}{
		{"no device", func(_ *testing.T, c *Config) { c.Device = "/nonexistent/tpmrm0" }, ErrNoTPM},
		{"not a device", func(_ *testing.T, c *Config) { c.Device = "/etc/passwd" }, ErrNoTPM},
		{"no socket", func(_ *testing.T, c *Config) { c.Device = "unix:/nonexistent/data" }, ErrNoTPM},
		{"not a TPM", func(_ *testing.T, c *Config) { c.Device = "/dev/zero" }, nil},
		{"mute TPM", func(t *testing.T, c *Config) { c.Device, c.Timeout = mute(t), 50*time.Millisecond }, ErrBusy},
		{"log is locked", func(t *testing.T, c *Config) {
			c.Timeout = 50 * time.Millisecond
			lock(t, c.LogPath)
		}, ErrBusy},
		{"intent cannot be written", func(t *testing.T, c *Config) {
			if err := os.MkdirAll(c.LogPath+".intent.new/x", 0o755); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"log is not a log", func(t *testing.T, c *Config) {
			if err := os.MkdirAll(filepath.Dir(c.LogPath), 0o755); err != nil {
				t.Fatal(err)
			}
			overwrite(t, c.LogPath, "\x1e{\"pcr\":8}\n")
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tpm := tpmtest.Start(t)
			before := readPCR(t, tpm)
			cfg := testConfig(t, tpm.Device, conf.Require)
			tt.setup(t, &cfg)
			_, err := open(t, cfg).Start(t.Context(), example("a"))
			if err == nil || tt.is != nil && (!errors.Is(err, tt.is) || hint.Of(err) == "") {
				t.Fatalf("mode require: %v (hint %q)", err, hint.Of(err))
			}
			if !readPCR(t, tpm).Equal(before) {
				t.Error("the register was extended all the same")
			}

			cfg.Mode = conf.Try
			m := open(t, cfg)
			for i, warns := range []bool{true, false, false} {
				rec, err := m.Start(t.Context(), example("a"))
				if err != nil || rec.Anchored || (rec.Warning != nil) != warns {
					t.Fatalf("mode try, start %d: %+v, %v", i, rec, err)
				}
			}
			notes, err := m.Unanchored()
			if err != nil || len(notes) != 3 {
				t.Fatalf("%d notes, %v", len(notes), err)
			}
			if sum, err := eventlog.Replay(notes); err != nil || sum.Starts != 3 || sum.PCR != -1 {
				t.Errorf("notes: %+v, %v", sum, err)
			}
		})
	}
}

// With a TPM at last, the log begins; the notes stay what they are.
func TestTPMAppears(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, "/nonexistent", conf.Try)
	if _, err := open(t, cfg).Start(t.Context(), example("a")); err != nil {
		t.Fatal(err)
	}
	cfg.Device = tpm.Device
	start(t, open(t, cfg), "b")
	_, events := verified(t, cfg)
	wantEvents(t, events, "boot start:b")
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg := testConfig(t, mute(t), conf.Try)
	if _, err := open(t, cfg).Start(ctx, example("a")); err == nil {
		t.Error("a cancelled start went on")
	}
}

func TestAppendFails(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	m := open(t, cfg)
	start(t, m, "a")
	full := false
	m.crash = func(step string) {
		if full = step == "extended"; full {
			limitFileSize(t, 100)
		}
	}
	_, err := m.Start(t.Context(), example("b"))
	limitFileSize(t, unix.RLIM_INFINITY)
	if err == nil || !strings.Contains(err.Error(), "append") {
		t.Fatalf("full disk: %v", err)
	}
	m.crash = func(string) {}
	start(t, m, "c")
	sum, events := verified(t, cfg)
	wantEvents(t, events, "boot start:a start:b start:c")
	if sum.Recovered != 1 {
		t.Errorf("%+v", sum)
	}
}

func TestStatementFallback(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	cfg.StatementDir = "/proc/nonexistent"
	m := open(t, cfg)
	if _, err := m.Start(t.Context(), example("a")); err == nil {
		t.Error("mode require: a start without a stored statement")
	}
	cfg.Mode = conf.Try
	if rec, err := open(t, cfg).Start(t.Context(), example("a")); err != nil || !rec.Anchored || rec.Warning == nil {
		t.Errorf("mode try: %+v, %v", rec, err)
	}
	cfg.Mode, cfg.StatementFallback = conf.Require, t.TempDir()
	m = open(t, cfg)
	event, err := eventlog.ParseEvent(start(t, m, "a").Content.String)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.LoadStatement(event.Digest); err != nil {
		t.Error(err)
	}
	overwrite(t, filepath.Join(cfg.StatementFallback, event.Digest+".json"), "{}")
	if _, err := m.LoadStatement(event.Digest); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a forged statement is returned: %v", err)
	}
	start(t, m, "a") // which repairs it
	if _, err := m.LoadStatement(event.Digest); err != nil {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	good := testConfig(t, "", conf.Try)
	for name, change := range map[string]func(*Config){
		"mode":       func(c *Config) { c.Mode = "maybe" },
		"register":   func(c *Config) { c.Register = "pcr:15" },
		"log":        func(c *Config) { c.LogPath = "" },
		"statements": func(c *Config) { c.StatementDir = "" },
	} {
		cfg := good
		change(&cfg)
		if _, err := Open(cfg); err == nil {
			t.Errorf("wrong %s is accepted", name)
		}
	}
}

// mute is a TPM that takes commands and never answers.
func mute(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mute") //nolint:usetesting // a socket's name is shorter than 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "unix:" + l.Addr().String()
}

func lock(t *testing.T, path string) {
	t.Helper()
	l, err := openLog(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// limitFileSize makes writes beyond n bytes fail, as on a full disk.
func limitFileSize(t *testing.T, n uint64) {
	t.Helper()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: unix.RLIM_INFINITY}); err != nil {
		t.Fatal(err)
	}
}

func readPCR(t *testing.T, tpm *tpmtest.TPM) eventlog.Register {
	t.Helper()
	dev, err := openDevice(t.Context(), tpm.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dev.Close() }()
	reg := register{dev, 8}
	banks, err := reg.banks()
	if err != nil {
		t.Fatal(err)
	}
	value, err := reg.read(banks)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
