// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/tpm/verify"
)

// The example was made by swtpm with the nonce 00112233; its key is enrolled as
// testdata/key.pub. The tests that make evidence, good and bad, are in package
// tpm, where there is a TPM.
func example(t testing.TB) (*verify.Evidence, verify.Trust) {
	t.Helper()
	data, err := os.ReadFile("testdata/evidence.json")
	if err != nil {
		t.Fatal(err)
	}
	e, err := verify.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile("testdata/key.pub")
	if err != nil {
		t.Fatal(err)
	}
	name, err := verify.KeyName(public)
	if err != nil {
		t.Fatal(err)
	}
	return e, verify.Trust{AK: name, Nonce: []byte{0x00, 0x11, 0x22, 0x33}}
}

func TestExample(t *testing.T) {
	e, trust := example(t)
	policy, err := os.ReadFile("testdata/policy.json")
	if err != nil {
		t.Fatal(err)
	}
	if trust.Policy, err = verify.ParsePolicy(policy); err != nil {
		t.Fatal(err)
	}
	result, err := verify.Verify(e, trust)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Starts) != 1 || result.Starts[0].Name != "etcd" {
		t.Errorf("%+v", result.Starts)
	}
	doc, err := os.ReadFile("../../docs/formats/evidence.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), strings.TrimSpace(string(policy))) {
		t.Error("docs/formats/evidence.md does not show testdata/policy.json")
	}
	trust.Policy.Containers = nil
	if _, err := verify.Verify(e, trust); err == nil {
		t.Error("a start that is not in the policy is accepted")
	}
}

func TestParseErrors(t *testing.T) {
	for _, text := range []string{"", "{}", `{"version":2}`, `{"version":1,"ak":"!"}`, `{"version":1,"pcrs":{"0":"XY"}}`} {
		if _, err := verify.Parse([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// Evidence is hostile: whatever it is, Verify returns, and accepts only what
// the example's key signed.
func FuzzVerify(f *testing.F) {
	good, trust := example(f)
	seed, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := verify.Parse(data)
		if err != nil {
			return
		}
		result, err := verify.Verify(e, trust)
		if err == nil && (len(result.Starts) != 1 || result.Starts[0].Name != "etcd") {
			t.Fatalf("accepted %+v", result)
		}
		if name, err := verify.KeyName(e.AK); err == nil { // so that fuzzing gets behind the key
			trust := trust
			trust.AK = name
			_, _ = verify.Verify(e, trust)
		}
	})
}
