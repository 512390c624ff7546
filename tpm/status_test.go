// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/tpm/tpmtest"
)

func TestStatus(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Try)
	m := open(t, cfg)
	check := func(m *Measurer, state State, starts, unmeasured int) {
		t.Helper()
		st, err := m.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		problem := state != StateOff && state != StateEmpty && state != StateMeasured
		if st.State != state || st.Starts != starts || st.Unmeasured != unmeasured || (st.Problem != "") != problem {
			t.Errorf("%+v, want %s with %d starts, %d not measured", st, state, starts, unmeasured)
		}
	}
	with := func(change func(*Config)) *Measurer {
		c := cfg
		change(&c)
		return open(t, c)
	}
	off := with(func(c *Config) { c.Mode = conf.Off })
	gone := with(func(c *Config) { c.Device = "/nonexistent" })

	check(m, StateEmpty, 0, 0)
	check(off, StateOff, 0, 0)
	if _, err := os.Stat(cfg.LogPath); err == nil {
		t.Error("asking for the status made a log")
	}
	start(t, m, "a")
	check(m, StateMeasured, 1, 0)
	check(off, StateMeasured, 1, 0)
	check(gone, StateUnmeasured, 0, 0)
	if _, err := gone.Start(t.Context(), example("b")); err != nil {
		t.Fatal(err)
	}
	check(m, StateMeasured, 1, 1)
	foreignExtend(t, tpm)
	check(m, StateMismatch, 1, 1)
	if s, err := m.Snapshot(t.Context()); err != nil {
		t.Error(err)
	} else if _, err := s.Verify(); !errors.Is(err, ErrGap) || hint.Of(err) == "" {
		t.Errorf("mismatch: %v", err)
	}
	start(t, m, "c")
	check(m, StateGap, 2, 1)
	reset(t, tpm)
	check(m, StateMismatch, 2, 1)
	remove(t, cfg.LogPath)
	start(t, m, "d")
	reset(t, tpm)
	start(t, m, "e")
	check(m, StateGap, 2, 1)

	overwrite(t, cfg.LogPath, "not a log")
	check(m, StateUnmeasured, 0, 1)
}

// Reading the status repairs what a dead writer left.
func TestStatusSettles(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	dies(t, cfg, "appended")
	dies(t, cfg, "extended")
	st, err := open(t, cfg).Status(t.Context())
	if err != nil || st.State != StateMeasured || st.Starts != 1 || st.Recovered != 1 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestExecutable(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	want := hex.EncodeToString(sum[:])
	cfg := testConfig(t, "", conf.Try)
	m := open(t, cfg)
	for range 2 {
		if got, err := m.Executable(); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	cached, err := filepath.Glob(filepath.Join(filepath.Dir(cfg.LogPath), "executables", "*"))
	if err != nil || len(cached) != 1 {
		t.Fatalf("cache %v, %v", cached, err)
	}
	overwrite(t, cached[0], want[:10]) // torn by a power cut
	if got, err := m.Executable(); err != nil || got != want {
		t.Errorf("after a torn cache: %s, %v, want %s", got, err, want)
	}
	cfg.LogPath = "/proc/nonexistent/log"
	if got, err := open(t, cfg).Executable(); err != nil || got != want {
		t.Errorf("without a cache: %s, %v, want %s", got, err, want)
	}
}

func TestValuesDigest(t *testing.T) {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	for _, tt := range []struct {
		values map[string]string
		want   string
	}{
		{nil, "{}"},
		{map[string]string{"B": "2", "A": "<1>&\u2028"}, "{\"A\":\"<1>&\u2028\",\"B\":\"2\"}"},
	} {
		if got, err := ValuesDigest(tt.values); err != nil || got != hash(tt.want) {
			t.Errorf("%v: %s, %v, want that of %s", tt.values, got, err, strings.TrimSpace(tt.want))
		}
	}
}
