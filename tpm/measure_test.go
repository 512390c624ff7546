// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/tpm/eventlog"
	"github.com/atomic-agent/atomic/tpm/statement"
	"github.com/atomic-agent/atomic/tpm/tpmtest"
)

var digest64 = strings.Repeat("5a", 32)

func example(name string) Start {
	return Start{
		Name:      name,
		Image:     StartImage{Ref: "registry.test:5000/library/" + name + ":1", Manifest: "sha256:" + digest64, Config: "sha256:" + digest64},
		Rootfs:    StartRootfs{Type: "composefs", Verity: digest64, Enforced: true},
		Signature: StartSignature{Verdict: "unsigned"},
		Config:    digest64,
		Unit:      []StartFile{{Path: "/etc/systemd/system.attached/" + name + ".service", SHA256: digest64}},
		Values:    digest64,
		Agent:     StartAgent{Version: "1", SHA256: digest64},
	}
}

// testConfig is a configuration with files of its own.
func testConfig(t testing.TB, device string, mode conf.Policy) Config {
	dir := t.TempDir()
	return Config{
		Mode:         mode,
		Register:     "pcr:8",
		Device:       device,
		LogPath:      filepath.Join(dir, "run/log/atomic/tpm2-measure.log"),
		StatementDir: filepath.Join(dir, "var/statements"),
		Timeout:      time.Minute, // of a machine that has other things to do
	}
}

func open(t testing.TB, cfg Config) *Measurer {
	t.Helper()
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func start(t testing.TB, m *Measurer, name string) Record {
	t.Helper()
	rec, err := m.Start(t.Context(), example(name))
	if err != nil {
		t.Fatal(err)
	}
	if rec.Warning != nil {
		t.Fatalf("warning: %v", rec.Warning)
	}
	return rec
}

// verified replays the log, compares it with the TPM and returns its events.
func verified(t testing.TB, cfg Config) (*eventlog.Summary, []string) {
	t.Helper()
	s, err := open(t, cfg).Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum, err := eventlog.Replay(s.Records)
	if err != nil {
		t.Fatal(err)
	}
	if !sum.Register.Equal(s.Register) {
		t.Fatalf("the log gives %v, the TPM has %v", sum.Register, s.Register)
	}
	if _, err := os.Stat(cfg.LogPath + ".intent"); err == nil {
		t.Error("an intent is left")
	}
	var events []string
	for _, r := range s.Records {
		events = append(events, short(r.Content.String))
	}
	return sum, events
}

// short is an event without its digest.
func short(text string) string {
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "atomic-"), ":sha256:")
	return strings.Replace(text, ":1", "", 1)
}

func wantEvents(t testing.TB, got []string, want string) {
	t.Helper()
	if s := strings.Join(got, " "); s != want {
		t.Errorf("events %q, want %q", s, want)
	}
}

func TestStart(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	m := open(t, cfg)
	rec := start(t, m, "etcd")
	start(t, m, "flanneld")
	start(t, m, "etcd")
	if !rec.Anchored || *rec.PCR != 8 {
		t.Errorf("record %+v", rec)
	}
	sum, events := verified(t, cfg)
	wantEvents(t, events, "boot start:etcd start:flanneld start:etcd")
	if len(sum.Register) < 2 {
		t.Errorf("only the banks %v are measured", sum.Register.Banks())
	}
	event, err := eventlog.ParseEvent(rec.Content.String)
	if err != nil {
		t.Fatal(err)
	}
	body, err := m.LoadStatement(event.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := statement.Parse(body); err != nil || s.Name != "etcd" {
		t.Errorf("statement %v, %v", s, err)
	}
	if files, _ := os.ReadDir(cfg.StatementDir); len(files) != 2 {
		t.Errorf("%d statements for 2 containers", len(files))
	}
}

func TestGap(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, tpm *tpmtest.TPM, cfg Config)
		want   string // events in mode try, after one start, the break, and one start
	}{
		{"foreign extend", func(t *testing.T, tpm *tpmtest.TPM, cfg Config) { foreignExtend(t, tpm) }, "boot start:a gap start:b"},
		{"log deleted", func(t *testing.T, _ *tpmtest.TPM, cfg Config) { remove(t, cfg.LogPath) }, "gap start:b"},
		{"log cut", func(t *testing.T, _ *tpmtest.TPM, cfg Config) {
			cutLog(t, cfg, 10)
		}, "boot gap start:b"},
		{"TPM reset", func(t *testing.T, tpm *tpmtest.TPM, _ Config) { reset(t, tpm) }, "boot start:a boot start:b"},
		{"TPM reset and foreign extend", func(t *testing.T, tpm *tpmtest.TPM, _ Config) {
			reset(t, tpm)
			foreignExtend(t, tpm)
		}, "boot start:a gap start:b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tpm := tpmtest.Start(t)
			cfg := testConfig(t, tpm.Device, conf.Try)
			start(t, open(t, cfg), "a")
			tt.damage(t, tpm, cfg)

			strict := cfg
			strict.Mode = conf.Require
			_, err := open(t, strict).Start(t.Context(), example("b"))
			if !errors.Is(err, ErrGap) || hint.Of(err) == "" {
				t.Fatalf("mode require: %v", err)
			}
			start(t, open(t, cfg), "b")
			_, events := verified(t, cfg)
			wantEvents(t, events, tt.want)
			start(t, open(t, strict), "c") // the gap is in the log now
		})
	}
}

func TestAcknowledge(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	m := open(t, cfg)
	ack := func(want bool) {
		t.Helper()
		if got, err := m.Acknowledge(t.Context()); err != nil || got != want {
			t.Errorf("Acknowledge = %v, %v, want %v", got, err, want)
		}
	}
	ack(false)
	start(t, m, "a")
	ack(false)
	foreignExtend(t, tpm)
	ack(true)
	ack(false)
	start(t, m, "b")
	_, events := verified(t, cfg)
	wantEvents(t, events, "boot start:a gap start:b")
}

func foreignExtend(t *testing.T, tpm *tpmtest.TPM) {
	t.Helper()
	extendText(t, tpm, "foreign")
}

func extendText(t *testing.T, tpm *tpmtest.TPM, text string) {
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
	if err := reg.extend(eventlog.Zero(banks).Measure(text)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// cutLog takes the last n bytes off the log.
func cutLog(t *testing.T, cfg Config, n int64) {
	t.Helper()
	info, err := os.Stat(cfg.LogPath)
	if err == nil {
		err = os.Truncate(cfg.LogPath, info.Size()-n)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func reset(t *testing.T, tpm *tpmtest.TPM) {
	t.Helper()
	if err := tpm.Reset(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkStart(b *testing.B) {
	tpm := tpmtest.Start(b)
	m := open(b, testConfig(b, tpm.Device, conf.Require))
	for b.Loop() {
		if _, err := m.Start(b.Context(), example("etcd")); err != nil {
			b.Fatal(err)
		}
	}
}
