// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/tpm"
	"github.com/atomic-agent/atomic/tpm/tpmtest"
)

// attestHost is a host with a TPM of its own.
func attestHost(t *testing.T, emulator *tpmtest.TPM) paths.Host {
	t.Helper()
	host := paths.Host{Root: t.TempDir()}
	if err := os.MkdirAll(filepath.Dir(host.Config()), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "[TPM]\nDevice=" + emulator.Device + "\nMeasure=require\n"
	if err := os.WriteFile(host.Config(), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return host
}

func attestStart(t *testing.T, host paths.Host, name string) tpm.Record {
	t.Helper()
	m, err := measurer(host)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := m.Start(t.Context(), tpm.Start{Name: name, Image: tpm.StartImage{Manifest: "sha256:" + strings.Repeat("5a", 32)}})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func attestLog(t *testing.T, host paths.Host, o attestLogOptions) string {
	t.Helper()
	var out strings.Builder
	if err := runAttestLog(t.Context(), host, &out, &o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestAttest(t *testing.T) {
	emulator := tpmtest.Start(t)
	host := attestHost(t, emulator)
	if got := attestLog(t, host, attestLogOptions{replay: true}); got != "Nothing was measured since boot.\n" {
		t.Errorf("replay of nothing: %q", got)
	}
	attestStart(t, host, "etcd")
	attestStart(t, host, "flanneld")
	attestStart(t, host, "etcd")

	text := regexp.MustCompile(`(?m)^[0-9.]+ +| [0-9a-f]{12}| +$`).ReplaceAllString(attestLog(t, host, attestLogOptions{}), "")
	if want := "SECONDS"; !strings.HasPrefix(text, want) {
		t.Errorf("log %q", text)
	}
	_, rows, _ := strings.Cut(text, "\n")
	if want := "boot - -\nstart etcd\nstart flanneld\nstart etcd\n"; squeeze(rows) != squeeze(want) {
		t.Errorf("log\n%swant\n%s", rows, want)
	}
	if got := strings.Count(attestLog(t, host, attestLogOptions{json: true}), "\n"); got != 4 {
		t.Errorf("%d lines of JSON", got)
	}
	var cel []map[string]any
	if err := json.Unmarshal([]byte(attestLog(t, host, attestLogOptions{cel: true})), &cel); err != nil || len(cel) != 4 {
		t.Errorf("CEL of %d records, %v", len(cel), err)
	}
	if got := attestLog(t, host, attestLogOptions{tcg2: true}); !strings.Contains(got, "atomic-start:1:flanneld") {
		t.Errorf("TCG2 %q", got)
	}
	if got := attestLog(t, host, attestLogOptions{replay: true}); !strings.Contains(got, "The log gives the register's value: 3 starts, 0 gaps, 0 resets.") {
		t.Errorf("replay: %s", got)
	}
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestAttestMismatch(t *testing.T) {
	emulator := tpmtest.Start(t)
	host := attestHost(t, emulator)
	attestStart(t, host, "etcd")
	if err := emulator.Reset(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err := runAttestLog(t.Context(), host, &out, &attestLogOptions{replay: true})
	if !errors.Is(err, tpm.ErrGap) || out.Len() > 0 {
		t.Errorf("replay after a reset: %v, %q", err, out.String())
	}
	for _, want := range []string{"Noted.", "Nothing to acknowledge"} {
		out.Reset()
		if err := runAttestAck(t.Context(), &globals{IO: IO{Out: &out}, root: host.Root}); err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("ack: %q, %v, want %q", out.String(), err, want)
		}
	}
	attestStart(t, host, "etcd")
}

func TestAttestStatus(t *testing.T) {
	emulator := tpmtest.Start(t)
	host := attestHost(t, emulator)
	attestStart(t, host, "etcd")
	var out strings.Builder
	if err := runAttestStatus(t.Context(), host, &out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" State: measured\n", "Measure: require\n", "PCR 8: sha256 ", "Starts: 1 measured (0 of them recovered), 0 not measured\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("status has no %q:\n%s", want, out.String())
		}
	}
	out.Reset()
	var s tpm.Status
	if err := runAttestStatus(t.Context(), host, &out, true); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out.String()), &s); err != nil || s.State != tpm.StateMeasured || s.Mode != conf.Require || s.Starts != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestAttestStatement(t *testing.T) {
	emulator := tpmtest.Start(t)
	host := attestHost(t, emulator)
	rec := attestStart(t, host, "etcd")
	digest := rec.Content.String[len(rec.Content.String)-64:]
	for _, which := range []string{"etcd", digest, digest[:12]} {
		var out strings.Builder
		if err := runAttestStatement(host, &out, which); err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256([]byte(out.String())); hex.EncodeToString(sum[:]) != digest {
			t.Errorf("%s: printed bytes do not have the digest", which)
		}
	}
	for _, which := range []string{"flanneld", "", digest[:4], strings.Repeat("0", 64)} {
		if err := runAttestStatement(host, &strings.Builder{}, which); err == nil {
			t.Errorf("%q: found", which)
		}
	}
}

func TestAttestEvidence(t *testing.T) {
	emulator := tpmtest.Start(t)
	host := attestHost(t, emulator)
	attestStart(t, host, "etcd")
	run := func(in string, list ...string) (string, string, int) {
		var out, errs strings.Builder
		code := Run(t.Context(), append([]string{"--root", host.Root, "attest"}, list...), IO{strings.NewReader(in), &out, &errs})
		return out.String(), errs.String(), code
	}
	key, errs, code := run("", "key")
	if code != 0 {
		t.Fatal(errs)
	}
	key = strings.TrimSpace(key)
	evidence, errs, code := run("", "evidence", "--nonce", "a1b2")
	if code != 0 {
		t.Fatal(errs)
	}
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(`{"version":1,"containers":{"flanneld":{}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		code int
		want string // in the output or the error
	}{
		{"good", []string{"--nonce", "a1b2", "--key", key}, 0, "Accepted: 1 starts since boot, PCR 8 is "},
		{"json", []string{"--nonce", "a1b2", "--key", key, "--json"}, 0, `"name": "etcd"`},
		{"other nonce", []string{"--nonce", "a1b3", "--key", key}, 4, "hint: ask the host for new evidence"},
		{"other key", []string{"--nonce", "a1b2", "--key", "000b" + digest64}, 4, "hint: compare with `atomic attest key`"},
		{"policy", []string{"--nonce", "a1b2", "--key", key, "--policy", policy}, 4, "rejected (policy): etcd: not in the policy"},
		{"no nonce", []string{"--key", key}, 2, "--nonce is missing"},
		{"bad key", []string{"--nonce", "a1b2", "--key", "xyz"}, 2, `key "xyz" is not hex`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, code := run(evidence, append([]string{"verify", "-"}, tt.args...)...)
			if code != tt.code || !strings.Contains(out+errs, tt.want) {
				t.Errorf("exit code %d, want %d with %q\n%s%s", code, tt.code, tt.want, out, errs)
			}
		})
	}
	if _, errs, code := run("{}", "verify", "-", "--nonce", "a1b2", "--key", key); code != 1 {
		t.Errorf("garbage: exit code %d, %s", code, errs)
	}
	if _, _, code := run("", "evidence"); code != 2 {
		t.Errorf("evidence without a nonce: exit code %d", code)
	}
}

var digest64 = strings.Repeat("5a", 32)
