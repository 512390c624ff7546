// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/tpm/eventlog"
	"github.com/atomic-agent/atomic/tpm/tpmtest"
)

// Other people's tools must come to our result: tpm2-tools read the register
// and replay our log.
func TestInteropTPM2Tools(t *testing.T) {
	for _, tool := range []string{"tpm2_pcrread", "tpm2_eventlog"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (Debian: tpm2-tools)", tool)
		}
	}
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	m := open(t, cfg)
	start(t, m, "etcd")
	start(t, m, "flanneld")
	s, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	best := strings.ToUpper(s.Register.Best().Digest.String())

	read := run(t, "tpm2_pcrread", "-T", "swtpm:path="+tpm.Socket, "sha256:8")
	if !strings.Contains(strings.ToUpper(read), "8 : 0X"+best) {
		t.Errorf("tpm2_pcrread says\n%swant %s", read, best)
	}

	var tcg bytes.Buffer
	if err := eventlog.WriteTCG2(&tcg, s.Records); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "log")
	overwrite(t, file, tcg.String())
	replayed := run(t, "tpm2_eventlog", file)
	for _, d := range s.Register {
		want := fmt.Sprintf(`(?mi)^  %s:\n    8 *: 0x%s$`, d.HashAlg, d.Digest)
		if !regexp.MustCompile(want).MatchString(replayed) {
			t.Errorf("tpm2_eventlog does not come to %s %s:\n%s", d.HashAlg, d.Digest, replayed)
		}
	}
	if !strings.Contains(replayed, "atomic-start:1:etcd:") {
		t.Errorf("tpm2_eventlog does not show the text:\n%s", replayed)
	}
}

// systemd's pcrlock reads our log as one of its own.
func TestInteropPcrlock(t *testing.T) {
	const pcrlock = "/usr/lib/systemd/systemd-pcrlock"
	if _, err := os.Stat(pcrlock); err != nil {
		t.Skip("systemd-pcrlock is not installed")
	}
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Require)
	start(t, open(t, cfg), "etcd")
	cmd := exec.CommandContext(t.Context(), pcrlock, "cel", "--no-pager", "--json=short")
	cmd.Env = append(os.Environ(), "SYSTEMD_MEASURE_LOG_USERSPACE="+cfg.LogPath,
		"SYSTEMD_MEASURE_LOG_FIRMWARE="+firmwareLog(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("atomic-start:1:etcd:")) {
		t.Errorf("systemd-pcrlock does not show the start:\n%s", out)
	}
}

// firmwareLog is the log of a boot loader that measured one text into PCR 8.
func firmwareLog(t *testing.T) string {
	t.Helper()
	pcr := 8
	digests := eventlog.Zero([]string{"sha1", "sha256", "sha384", "sha512"}).Measure("grub_cmd: linux /vmlinuz")
	var tcg bytes.Buffer
	err := eventlog.WriteTCG2(&tcg, []eventlog.Record{{
		PCR: &pcr, Digests: digests, Content: eventlog.Content{String: "grub_cmd: linux /vmlinuz"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "firmware")
	overwrite(t, file, tcg.String())
	return file
}

// A register that the boot loader filled is not a gap.
func TestBootLoader(t *testing.T) {
	tpm := tpmtest.Start(t)
	extendText(t, tpm, "grub_cmd: linux /vmlinuz")
	cfg := testConfig(t, tpm.Device, conf.Require)
	if _, err := open(t, cfg).Start(t.Context(), example("a")); err == nil {
		t.Error("an unexplained register is accepted")
	}
	cfg.FirmwareLog = firmwareLog(t)
	start(t, open(t, cfg), "a")
	sum, events := verified(t, cfg)
	wantEvents(t, events, "boot start:a")
	if sum.First.IsZero() {
		t.Error("what the boot loader measured is lost")
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}
