// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/tpm/tpmtest"
)

// The tests of this file need writers that are processes of their own: the test
// program, called again with these in its environment.
const (
	envWriter = "ATOMIC_TEST_WRITER" // how many starts
	envDevice = "ATOMIC_TEST_DEVICE"
	envLog    = "ATOMIC_TEST_LOG"
	envStore  = "ATOMIC_TEST_STATEMENTS"
	envCrash  = "ATOMIC_TEST_CRASH" // the step of the protocol to die at
)

func TestMain(m *testing.M) {
	if os.Getenv(envWriter) != "" {
		if err := writerMain(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func writerMain() error {
	m, err := Open(Config{
		Mode: conf.Require, Register: "pcr:8", Device: os.Getenv(envDevice),
		LogPath: os.Getenv(envLog), StatementDir: os.Getenv(envStore),
	})
	if err != nil {
		return err
	}
	m.crash = func(step string) {
		if step == os.Getenv(envCrash) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	n, err := strconv.Atoi(os.Getenv(envWriter))
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := m.Start(context.Background(), example("w"+strconv.Itoa(i))); err != nil {
			return err
		}
	}
	return nil
}

func writerCommand(t *testing.T, cfg Config, starts int, crash string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), envWriter+"="+strconv.Itoa(starts), envDevice+"="+cfg.Device,
		envLog+"="+cfg.LogPath, envStore+"="+cfg.StatementDir, envCrash+"="+crash)
	return cmd
}

// dies runs a writer that must be killed at a step.
func dies(t *testing.T, cfg Config, step string) {
	t.Helper()
	out, err := writerCommand(t, cfg, 1, step).CombinedOutput()
	if err == nil || len(out) > 0 {
		t.Fatalf("the writer did not die at %q: %v, %s", step, err, out)
	}
}

func TestCrash(t *testing.T) {
	tests := []struct {
		step   string
		damage func(t *testing.T, tpm *tpmtest.TPM, cfg Config) // after the crash
		want   string
		gaps   int
		// recovered says that the record of the dead writer must be marked.
		recovered int
	}{
		{"intent", nil, "boot start:a start:b", 0, 0},
		{"extended", nil, "boot start:a start:w0 start:b", 0, 1},
		{"extended", func(t *testing.T, _ *tpmtest.TPM, cfg Config) { tear(t, cfg) }, "boot start:a start:w0 start:b", 0, 1},
		{"appended", nil, "boot start:a start:w0 start:b", 0, 0},
		{"appended", func(t *testing.T, _ *tpmtest.TPM, cfg Config) { cutLog(t, cfg, 9) }, "boot start:a start:w0 start:b", 0, 1},
		{"intent", func(t *testing.T, tpm *tpmtest.TPM, _ Config) { foreignExtend(t, tpm) }, "boot start:a gap start:b", 1, 0},
		{"extended", func(t *testing.T, tpm *tpmtest.TPM, _ Config) { foreignExtend(t, tpm) }, "boot start:a gap start:b", 1, 0},
		{"appended", func(t *testing.T, tpm *tpmtest.TPM, _ Config) { reset(t, tpm) }, "boot start:a start:w0 boot start:b", 0, 0},
		{"extended", func(t *testing.T, _ *tpmtest.TPM, cfg Config) { remove(t, cfg.LogPath) }, "gap start:b", 1, 0},
		{"extended", func(t *testing.T, _ *tpmtest.TPM, cfg Config) { overwrite(t, cfg.LogPath+".intent", "{}") }, "boot start:a gap start:b", 1, 0},
		{"extended", func(t *testing.T, _ *tpmtest.TPM, cfg Config) { overwrite(t, cfg.LogPath+".intent", "") }, "boot start:a gap start:b", 1, 0},
		{"intent", func(t *testing.T, _ *tpmtest.TPM, cfg Config) { overwrite(t, cfg.LogPath+".intent.new", "{") }, "boot start:a start:b", 0, 0},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprintf("%d %s", i, tt.step), func(t *testing.T) {
			tpm := tpmtest.Start(t)
			cfg := testConfig(t, tpm.Device, conf.Try)
			start(t, open(t, cfg), "a")
			dies(t, cfg, tt.step)
			if tt.damage != nil {
				tt.damage(t, tpm, cfg)
			}
			start(t, open(t, cfg), "b")
			sum, events := verified(t, cfg)
			wantEvents(t, events, tt.want)
			if sum.Gaps != tt.gaps || sum.Recovered != tt.recovered {
				t.Errorf("%d gaps and %d recovered records, want %d and %d", sum.Gaps, sum.Recovered, tt.gaps, tt.recovered)
			}
		})
	}
}

// A writer may die while it settles what another dead one left.
func TestCrashWhileSettling(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	start(t, open(t, cfg), "a")
	dies(t, cfg, "extended")
	dies(t, cfg, "settled")
	dies(t, cfg, "intent")
	start(t, open(t, cfg), "b")
	sum, events := verified(t, cfg)
	wantEvents(t, events, "boot start:a start:w0 start:b")
	if sum.Recovered != 1 {
		t.Errorf("%d recovered records", sum.Recovered)
	}
}

// The very first record has no predecessor to compare with.
func TestCrashAtFirstRecord(t *testing.T) {
	for _, step := range []string{"intent", "extended", "appended"} {
		t.Run(step, func(t *testing.T) {
			tpm := tpmtest.Start(t)
			cfg := testConfig(t, tpm.Device, conf.Require)
			dies(t, cfg, step)
			start(t, open(t, cfg), "a")
			_, events := verified(t, cfg)
			wantEvents(t, events, "boot start:a")
		})
	}
}

func TestConcurrentWriters(t *testing.T) {
	const writers, starts = 20, 10
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	var wg sync.WaitGroup
	for range writers {
		cmd := writerCommand(t, cfg, starts, "")
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	if sum, _ := verified(t, cfg); sum.Starts != writers*starts || sum.Gaps+sum.Recovered > 0 {
		t.Errorf("%+v, want %d starts", sum, writers*starts)
	}
}

// Writers are killed at random moments; afterwards the log explains the
// register, without a gap.
func TestTorture(t *testing.T) {
	runs := 300
	if testing.Short() {
		runs = 60
	}
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	killed := 0
	for end := time.Now().Add(10 * time.Second); runs > 0 && time.Now().Before(end); runs-- {
		cmd := writerCommand(t, cfg, 20, "")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		if err != nil {
			killed++
		}
		if out.Len() > 0 {
			t.Fatalf("%v: %s", err, &out)
		}
	}
	sum, _ := verified(t, cfg)
	t.Logf("%d writers killed, %d starts, %d recovered", killed, sum.Starts, sum.Recovered)
	if sum.Gaps > 0 || sum.Resets > 0 {
		t.Errorf("%d gaps, %d resets", sum.Gaps, sum.Resets)
	}
}

// tear appends half of the record that the intent announces.
func tear(t *testing.T, cfg Config) {
	t.Helper()
	f, err := os.OpenFile(cfg.LogPath, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\x1e{\"pcr\":8,\"digests\":["); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
