// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/tpm/eventlog"
	"github.com/atomic-agent/atomic/tpm/tpmtest"
	"github.com/atomic-agent/atomic/tpm/verify"
)

var nonce = []byte("a nonce that was never used before")

// attestedHost is a host with two starts, and its enrolled key.
func attestedHost(t *testing.T) (*tpmtest.TPM, Config, verify.Trust) {
	t.Helper()
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Try)
	m := open(t, cfg)
	start(t, m, "etcd")
	start(t, m, "flanneld")
	public, err := m.AttestationKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name, err := verify.KeyName(public)
	if err != nil {
		t.Fatal(err)
	}
	return tpm, cfg, verify.Trust{AK: name, Nonce: nonce}
}

func evidence(t *testing.T, cfg Config, nonce []byte) *verify.Evidence {
	t.Helper()
	e, err := open(t, cfg).Evidence(t.Context(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wantRejection is empty if the evidence must be accepted.
func wantRejection(t *testing.T, e *verify.Evidence, trust verify.Trust, check verify.Check, text string) {
	t.Helper()
	_, err := verify.Verify(e, trust)
	var r *verify.Rejection
	switch {
	case check == "" && err != nil:
		t.Errorf("rejected: %v", err)
	case check == "":
	case !errors.As(err, &r):
		t.Errorf("accepted, or no rejection: %v", err)
	case r.Check != check || !strings.Contains(err.Error(), text):
		t.Errorf("%v, want %s: %s", err, check, text)
	}
}

func TestEvidence(t *testing.T) {
	tpm, cfg, trust := attestedHost(t)
	e := evidence(t, cfg, nonce)
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if e, err = verify.Parse(data); err != nil {
		t.Fatal(err)
	}
	result, err := verify.Verify(e, trust)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Starts) != 2 || result.Starts[1].Name != "flanneld" || result.Starts[1].Statement.Config != digest64 || result.Register != 8 {
		t.Errorf("%+v", result)
	}
	t.Logf("%d bytes of evidence for 2 starts", len(data))

	// The key outlives the TPM's reset, evidence does not.
	reset(t, tpm)
	remove(t, cfg.LogPath)
	start(t, open(t, cfg), "etcd")
	wantRejection(t, evidence(t, cfg, nonce), trust, "", "")
	e2 := evidence(t, cfg, nonce)
	e2.Log = e.Log
	wantRejection(t, e2, trust, verify.CheckRegister, "the log gives")
}

// Nothing started yet is evidence as well.
func TestEvidenceOfNothing(t *testing.T) {
	tpm := tpmtest.Start(t)
	cfg := testConfig(t, tpm.Device, conf.Try)
	m := open(t, cfg)
	public, err := m.AttestationKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name, err := verify.KeyName(public)
	if err != nil {
		t.Fatal(err)
	}
	wantRejection(t, evidence(t, cfg, nonce), verify.Trust{AK: name, Nonce: nonce}, "", "")
	extendText(t, tpm, "foreign")
	wantRejection(t, evidence(t, cfg, nonce), verify.Trust{AK: name, Nonce: nonce}, verify.CheckRegister, "")
}

// Each case changes one thing in good evidence, or in what the verifier knows.
func TestEvidenceTampering(t *testing.T) {
	_, cfg, trust := attestedHost(t)
	_, otherCfg, otherTrust := attestedHost(t)
	other := evidence(t, otherCfg, nonce)
	records, _, err := eventlog.Parse(evidence(t, cfg, nonce).Log)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(records []eventlog.Record) []byte {
		var out []byte
		for _, r := range records {
			one, err := eventlog.Encode(r)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, one...)
		}
		return out
	}
	tests := []struct {
		name   string
		tamper func(e *verify.Evidence, trust *verify.Trust)
		check  verify.Check
		text   string
	}{
		{"nothing", func(*verify.Evidence, *verify.Trust) {}, "", ""},
		{"other key enrolled", func(_ *verify.Evidence, tr *verify.Trust) { tr.AK = otherTrust.AK }, verify.CheckKey, "is not the enrolled"},
		{"no key enrolled", func(_ *verify.Evidence, tr *verify.Trust) { tr.AK = nil }, verify.CheckKey, "is not the enrolled"},
		{"other TPM's evidence", func(e *verify.Evidence, _ *verify.Trust) { *e = *other }, verify.CheckKey, "is not the enrolled"},
		{"other TPM's quote", func(e *verify.Evidence, _ *verify.Trust) { e.Quote, e.Signature = other.Quote, other.Signature }, verify.CheckSignature, "not made by"},
		{"key cut", func(e *verify.Evidence, _ *verify.Trust) { e.AK = e.AK[:20] }, verify.CheckKey, "parse key"},
		{"key not restricted", func(e *verify.Evidence, _ *verify.Trust) {
			changeKey(t, e, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false })
		}, verify.CheckKey, "not a restricted"},
		{"key may be duplicated", func(e *verify.Evidence, _ *verify.Trust) {
			changeKey(t, e, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false })
		}, verify.CheckKey, "not a restricted"},
		{"key may decrypt", func(e *verify.Evidence, _ *verify.Trust) {
			changeKey(t, e, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true })
		}, verify.CheckKey, "not a restricted"},
		{"key of another hash", func(e *verify.Evidence, _ *verify.Trust) {
			changeKey(t, e, func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 })
		}, verify.CheckKey, "not a restricted"},
		{"bytes behind the key", func(e *verify.Evidence, _ *verify.Trust) { e.AK = append(e.AK, 0) }, verify.CheckKey, "parse key"},
		{"signature cut", func(e *verify.Evidence, _ *verify.Trust) { e.Signature = e.Signature[:8] }, verify.CheckSignature, "parse signature"},
		{"signature flipped", func(e *verify.Evidence, _ *verify.Trust) { e.Signature[len(e.Signature)-1] ^= 1 }, verify.CheckSignature, "not made by"},
		{"quote flipped", func(e *verify.Evidence, _ *verify.Trust) { e.Quote[len(e.Quote)-1] ^= 1 }, verify.CheckSignature, "not made by"},
		{"magic flipped", func(e *verify.Evidence, _ *verify.Trust) { e.Quote[0] ^= 1 }, verify.CheckSignature, "not made by"},
		{"other nonce", func(_ *verify.Evidence, tr *verify.Trust) { tr.Nonce = []byte("another") }, verify.CheckNonce, "another nonce"},
		{"no nonce", func(_ *verify.Evidence, tr *verify.Trust) { tr.Nonce = nil }, verify.CheckNonce, "another nonce"},
		{"other register value", func(e *verify.Evidence, _ *verify.Trust) { e.PCRs["8"][0] ^= 1 }, verify.CheckPCRs, "not those that were signed"},
		{"other firmware value", func(e *verify.Evidence, _ *verify.Trust) { e.PCRs["0"][0] ^= 1 }, verify.CheckPCRs, "not those that were signed"},
		{"values swapped", func(e *verify.Evidence, _ *verify.Trust) { e.PCRs["8"], e.PCRs["9"] = e.PCRs["9"], e.PCRs["8"] }, verify.CheckPCRs, "not those that were signed"},
		{"value missing", func(e *verify.Evidence, _ *verify.Trust) { delete(e.PCRs, "3") }, verify.CheckPCRs, "15 values"},
		{"value not signed", func(e *verify.Evidence, _ *verify.Trust) { e.PCRs["16"] = make(eventlog.Hex, 32) }, verify.CheckPCRs, "17 values"},
		{"value instead of another", func(e *verify.Evidence, _ *verify.Trust) {
			delete(e.PCRs, "3")
			e.PCRs["16"] = make(eventlog.Hex, 32)
		}, verify.CheckPCRs, "PCR 3 has a value of 0 bytes"},
		{"other register", func(e *verify.Evidence, _ *verify.Trust) { e.Register = 9 }, verify.CheckLog, "the log is of PCR 8"},
		{"register not quoted", func(e *verify.Evidence, _ *verify.Trust) { e.Register = 23 }, verify.CheckRegister, "not among the quoted"},
		{"log cut", func(e *verify.Evidence, _ *verify.Trust) { e.Log = encode(records[:2]) }, verify.CheckRegister, "the log gives"},
		{"log torn", func(e *verify.Evidence, _ *verify.Trust) { e.Log = e.Log[:len(e.Log)-3] }, verify.CheckLog, "torn"},
		{"no log", func(e *verify.Evidence, _ *verify.Trust) { e.Log = nil }, verify.CheckRegister, "the log gives 0000"},
		{"log garbage", func(e *verify.Evidence, _ *verify.Trust) { e.Log = []byte("x") }, verify.CheckLog, "does not begin"},
		{"start dropped", func(e *verify.Evidence, _ *verify.Trust) {
			e.Log = encode(rechain(records[0], records[2]))
		}, verify.CheckRegister, "the log gives"},
		{"starts swapped", func(e *verify.Evidence, _ *verify.Trust) {
			e.Log = encode(rechain(records[0], records[2], records[1]))
		}, verify.CheckRegister, "the log gives"},
		{"start renamed", func(e *verify.Evidence, _ *verify.Trust) {
			r := records[1]
			r.Content.String = strings.Replace(r.Content.String, ":etcd:", ":rogue:", 1)
			e.Log = encode([]eventlog.Record{records[0], r, records[2]})
		}, verify.CheckLog, "digest is not that of"},
		{"history called the boot loader's", func(e *verify.Evidence, _ *verify.Trust) {
			tail := rechain(records[0], records[2])
			tail[0].Atomic.Before = records[1].Atomic.Register
			e.Log = encode(rebase(tail))
		}, verify.CheckRegister, "the log gives"},
		{"statement missing", func(e *verify.Evidence, _ *verify.Trust) { e.Statements = e.Statements[:1] }, verify.CheckStatements, "of a start of flanneld is missing"},
		{"statement changed", func(e *verify.Evidence, _ *verify.Trust) {
			e.Statements[0] = strings.Replace(e.Statements[0], `"enforced":true`, `"enforced":false`, 1)
		}, verify.CheckStatements, "is missing"},
		{"statement not canonical", func(e *verify.Evidence, _ *verify.Trust) { e.Statements[0] += "\n" }, verify.CheckStatements, "canonical"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, tr := evidence(t, cfg, nonce), trust
			tt.tamper(e, &tr)
			wantRejection(t, e, tr, tt.check, tt.text)
		})
	}
}

// rechain renumbers records and computes their values anew.
func rechain(records ...eventlog.Record) []eventlog.Record {
	for i := range records {
		records[i].Atomic.Seq = uint64(i)
	}
	return rebase(records)
}

func rebase(records []eventlog.Record) []eventlog.Record {
	value := records[0].Atomic.Before
	for i := range records {
		value = value.Extend(records[i].Digests)
		records[i].Atomic.Register = value
	}
	return records
}

func changeKey(t *testing.T, e *verify.Evidence, change func(*tpm2.TPMTPublic)) {
	t.Helper()
	pub, err := tpm2.Unmarshal[tpm2.TPMTPublic](e.AK)
	if err != nil {
		t.Fatal(err)
	}
	change(pub)
	e.AK = tpm2.Marshal(pub)
}

// A host that did something wrong can sign it, and is rejected for it.
func TestEvidenceOfWrongs(t *testing.T) {
	tests := []struct {
		name  string
		wrong func(t *testing.T, tpm *tpmtest.TPM, cfg *Config)
		check verify.Check
	}{
		{"foreign extend, not logged", func(t *testing.T, tpm *tpmtest.TPM, _ *Config) { extendText(t, tpm, "foreign") }, verify.CheckRegister},
		{"foreign extend, gap logged", func(t *testing.T, tpm *tpmtest.TPM, cfg *Config) {
			extendText(t, tpm, "foreign")
			start(t, open(t, *cfg), "etcd")
		}, verify.CheckGap},
		{"log begun anew", func(t *testing.T, _ *tpmtest.TPM, cfg *Config) {
			remove(t, cfg.LogPath)
			start(t, open(t, *cfg), "etcd")
		}, verify.CheckGap},
		{"TPM reset", func(t *testing.T, tpm *tpmtest.TPM, cfg *Config) {
			reset(t, tpm)
			start(t, open(t, *cfg), "etcd")
		}, verify.CheckReset},
		{"TPM reset and replayed", func(t *testing.T, tpm *tpmtest.TPM, cfg *Config) {
			log, err := os.ReadFile(cfg.LogPath)
			if err != nil {
				t.Fatal(err)
			}
			records, _, err := eventlog.Parse(log)
			if err != nil {
				t.Fatal(err)
			}
			reset(t, tpm)
			for _, r := range records {
				extendText(t, tpm, r.Content.String)
			}
		}, verify.CheckReset},
		{"starts called the boot loader's", func(t *testing.T, tpm *tpmtest.TPM, cfg *Config) {
			// A rogue start is told off as the boot loader's: the firmware's
			// log is only a file.
			log, err := os.ReadFile(cfg.LogPath)
			if err != nil {
				t.Fatal(err)
			}
			records, _, err := eventlog.Parse(log)
			if err != nil {
				t.Fatal(err)
			}
			for i := range records {
				records[i].Content.String = "grub_cmd: nothing to see here"
			}
			file := filepath.Join(t.TempDir(), "firmware")
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := eventlog.WriteTCG2(f, records); err != nil {
				t.Fatal(err)
			}
			remove(t, cfg.LogPath)
			cfg.FirmwareLog = file
			start(t, open(t, *cfg), "etcd")
		}, verify.CheckFirmware},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tpm, cfg, trust := attestedHost(t)
			tt.wrong(t, tpm, &cfg)
			wantRejection(t, evidence(t, cfg, nonce), trust, tt.check, "")
		})
	}
}

// What the boot loader measured is no reason for a rejection.
func TestEvidenceBootLoader(t *testing.T) {
	tpm := tpmtest.Start(t)
	extendText(t, tpm, "grub_cmd: linux /vmlinuz")
	cfg := testConfig(t, tpm.Device, conf.Require)
	cfg.FirmwareLog = firmwareLog(t)
	m := open(t, cfg)
	public, err := m.AttestationKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name, err := verify.KeyName(public)
	if err != nil {
		t.Fatal(err)
	}
	trust := verify.Trust{AK: name, Nonce: nonce}
	wantRejection(t, evidence(t, cfg, nonce), trust, "", "")
	start(t, m, "etcd")
	e := evidence(t, cfg, nonce)
	wantRejection(t, e, trust, "", "")
	e.Firmware = nil
	wantRejection(t, e, trust, verify.CheckFirmware, "")
}

// A signature of the key over something that is not a quote must not pass.
func TestEvidenceOtherAttestation(t *testing.T) {
	_, cfg, trust := attestedHost(t)
	e := evidence(t, cfg, nonce)
	dev, err := openDevice(t.Context(), cfg.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dev.Close() }()
	ak, err := createAK(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ak.flush() }()
	rsp, err := tpm2.GetTime{
		PrivacyAdminHandle: tpm2.TPMRHEndorsement,
		SignHandle:         tpm2.AuthHandle{Handle: ak.handle.Handle, Name: ak.handle.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData:     tpm2.TPM2BData{Buffer: verify.Qualification(nonce)},
		InScheme:           tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(dev)
	if err != nil {
		t.Fatal(err)
	}
	e.Quote, e.Signature = rsp.TimeInfo.Bytes(), tpm2.Marshal(rsp.Signature)
	wantRejection(t, e, trust, verify.CheckQuote, "signed is something else")

	// Nor a quote of fewer registers, with values for all.
	sel := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15),
	}}}
	q, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: ak.handle.Handle, Name: ak.handle.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: verify.Qualification(nonce)},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      sel,
	}.Execute(dev)
	if err != nil {
		t.Fatal(err)
	}
	e.Quote, e.Signature = q.Quoted.Bytes(), tpm2.Marshal(q.Signature)
	wantRejection(t, e, trust, verify.CheckPCRs, "of other registers")
}

func TestEvidencePolicy(t *testing.T) {
	_, cfg, trust := attestedHost(t)
	e := evidence(t, cfg, nonce)
	accepted, err := verify.Verify(e, trust)
	if err != nil {
		t.Fatal(err)
	}
	manifest, etcd, flannel := "sha256:"+digest64, accepted.Starts[0].Digest, accepted.Starts[1].Digest
	tests := []struct {
		name, policy string
		check        verify.Check
		text         string
	}{
		{"all allowed", `{"etcd":{},"flanneld":{}}`, "", ""},
		{"nothing allowed", `{}`, verify.CheckPolicy, "etcd: not in the policy\nflanneld: not in the policy"},
		{"one missing", `{"etcd":{}}`, verify.CheckPolicy, "flanneld: not in the policy"},
		{"manifests", `{"etcd":{"manifests":["x","` + manifest + `"]},"flanneld":{"enforced":true}}`, "", ""},
		{"other manifest", `{"etcd":{"manifests":["x"]},"flanneld":{}}`, verify.CheckPolicy, "etcd: image " + manifest + " is not allowed"},
		{"statements", `{"etcd":{"statements":["` + etcd + `"]},"flanneld":{"statements":["` + flannel + `"]}}`, "", ""},
		{"other statement", `{"etcd":{"statements":["` + flannel + `"]},"flanneld":{}}`, verify.CheckPolicy, "etcd: statement " + etcd + " is not allowed"},
		{"signed", `{"etcd":{"signed":true},"flanneld":{}}`, verify.CheckPolicy, "etcd: the image was not accepted by a signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy, err := verify.ParsePolicy([]byte(`{"version":1,"containers":` + tt.policy + `}`))
			if err != nil {
				t.Fatal(err)
			}
			trust.Policy = policy
			wantRejection(t, e, trust, tt.check, tt.text)
		})
	}
	for _, bad := range []string{`{}`, `{"version":2}`, `{"version":1,"container":{}}`, `{"version":1,"containers":{"a":{"sigend":true}}}`, `[`} {
		if _, err := verify.ParsePolicy([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
