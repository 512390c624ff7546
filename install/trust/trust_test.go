// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

func host(t *testing.T, policy string) paths.Host {
	t.Helper()
	t.Setenv("CONTAINERS_POLICY_JSON", "")
	h := paths.Host{Root: t.TempDir()}
	if policy == "" {
		return h
	}
	file := h.Path("/etc/containers/policy.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestVerdict(t *testing.T) {
	const policy = `{"default":[{"type":"reject"}],"transports":{"docker":{
		"r.test":[{"type":"insecureAcceptAnything"}],
		"r.test/signed":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/etc/keys/b.gpg"},{"type":"signedBy","keyType":"GPGKeys","keyPath":"/etc/keys/a.gpg"}],
		"r.test/signed/app:2":[{"type":"sigstoreSigned","keyPath":"/etc/keys/c.pub"}],
		"*.wild.test":[{"type":"sigstoreSigned","keyData":"a2V5"}]}}}`
	tests := []struct {
		image, verdict string
		keys           []string
	}{
		{"other.test/app:1", "unsigned", nil}, // would be rejected
		{"r.test/app:1", "unsigned", nil},
		{"r.test/signed/app:1", "signedBy", []string{"/etc/keys/a.gpg", "/etc/keys/b.gpg"}},
		{"r.test/signed/app:2", "sigstore", []string{"/etc/keys/c.pub"}},
		{"a.wild.test/app:1", "sigstore", []string{"sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"}},
	}
	p, err := trust.Load(host(t, policy), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.image, func(t *testing.T) {
			ref, err := docker.ParseReference("//" + tt.image)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Verdict(ref)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.PolicySHA256) != 64 {
				t.Errorf("policy %q is no digest", got.PolicySHA256)
			}
			got.PolicySHA256 = ""
			if diff := cmp.Diff(record.Signature{Verdict: tt.verdict, Keys: tt.keys}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	ref, err := docker.ParseReference("//r.test/app:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("none", func(t *testing.T) {
		p, err := trust.Load(host(t, ""), false)
		if err != nil || p.File != "" {
			t.Fatalf("%+v, %v", p, err)
		}
		err = p.Reject(fmt.Errorf("copy: %w", signature.PolicyRequirementError("no")))
		if !errors.Is(err, trust.ErrRejected) || !strings.Contains(hint.Of(err), "no /etc/containers/policy.json") {
			t.Errorf("%v (%s)", err, hint.Of(err))
		}
	})
	t.Run("exception", func(t *testing.T) {
		p, err := trust.Load(host(t, `{"default":[{"type":"reject"}]}`), true)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := p.Verdict(ref); err != nil || !v.Exception || v.Verdict != "unsigned" {
			t.Errorf("%+v, %v", v, err)
		}
	})
	t.Run("broken", func(t *testing.T) {
		if _, err := trust.Load(host(t, `{"default":[]}`), false); err == nil || hint.Of(err) == "" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("other errors stay", func(t *testing.T) {
		p, err := trust.Load(host(t, ""), false)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Reject(os.ErrClosed); !errors.Is(err, os.ErrClosed) || errors.Is(err, trust.ErrRejected) {
			t.Errorf("error %v", err)
		}
	})
}
