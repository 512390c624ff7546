// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

var digest64 = strings.Repeat("5a", 32)

func example(name string) Start {
	return Start{
		Name:      name,
		Image:     Image{Ref: "registry.test:5000/library/" + name + ":1", Manifest: "sha256:" + digest64, Config: "sha256:" + digest64},
		Rootfs:    Rootfs{Type: "composefs", Verity: digest64, Enforced: true},
		Signature: Signature{Verdict: "unsigned"},
		Config:    digest64,
		Unit:      []File{{Path: "/etc/systemd/system.attached/" + name + ".service", SHA256: digest64}},
		Values:    digest64,
		Agent:     Agent{Version: "1", SHA256: digest64},
	}
}

func readExample(t *testing.T) []byte {
	t.Helper()
	body, err := os.ReadFile("testdata/statement.json")
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// The example was not made by this package, and docs/formats/statement.md
// shows it.
func TestStatementExample(t *testing.T) {
	body := readExample(t)
	s, err := Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	again, digest, err := New(*s)
	if err != nil || !bytes.Equal(again, body) {
		t.Errorf("made again: %s, %v", again, err)
	}
	want, err := os.ReadFile("testdata/statement.sha256")
	if err != nil || digest != strings.TrimSpace(string(want)) {
		t.Errorf("digest %s, want %s, %v", digest, want, err)
	}
	doc, err := os.ReadFile("../../docs/formats/statement.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```json\n(.*)```").FindSubmatch(doc)
	if shown == nil || !strings.Contains(string(doc), digest) {
		t.Fatal("docs/formats/statement.md does not show the example")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, shown[1]); err != nil || !bytes.Equal(compact.Bytes(), body) {
		t.Errorf("docs/formats/statement.md shows another statement (%v)\n%s", err, &compact)
	}
}

func TestParseStatementErrors(t *testing.T) {
	good := string(readExample(t))
	tests := []struct{ name, old, new, want string }{
		{"white space", `{"_type"`, `{ "_type"`, "not in canonical form"},
		{"order", `"enforced":true,"type":"composefs"`, `"type":"composefs","enforced":true`, "not in canonical form"},
		{"unknown key", `"values":`, `"value":"","values":`, `unknown field "value"`},
		{"doubled key", `"name":"etcd"`, `"name":"x","name":"etcd"`, "not in canonical form"},
		{"other type", "Statement/v1", "Statement/v0.1", "of another kind"},
		{"other predicate", "start/v1", "stop/v1", "of another kind"},
		{"name", `"name":"etcd"`, `"name":"et:cd"`, "forbidden character"},
		{"other subject", `"subject":[{"digest":{"sha256":"`, `"subject":[{"digest":{"sha256":"00`, "not in canonical form"},
		{"manifest", `"manifest":"sha256:`, `"manifest":"sha512:`, "not sha256:HEX"},
		{"not JSON", "}", "", "parse statement"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("%q is not in the example", tt.old)
			}
			_, err := Parse([]byte(strings.Replace(good, tt.old, tt.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// What is equal must be equal in bytes, what differs must not.
func TestStatementDigests(t *testing.T) {
	base, digest, err := New(example("a"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Start){
		"name":       func(s *Start) { s.Name = "b" },
		"ref":        func(s *Start) { s.Image.Ref += "x" },
		"config":     func(s *Start) { s.Config = strings.Repeat("00", 32) },
		"verity":     func(s *Start) { s.Rootfs.Enforced = false },
		"exception":  func(s *Start) { s.Signature.Exception = true },
		"unit":       func(s *Start) { s.Unit[0].SHA256 = strings.Repeat("00", 32) },
		"no units":   func(s *Start) { s.Unit = nil },
		"agent":      func(s *Start) { s.Agent.Version = "2" },
		"html":       func(s *Start) { s.Image.Ref = "a<b>&c" },
		"separators": func(s *Start) { s.Image.Ref = "a\u2028b" },
	} {
		s := example("a")
		change(&s)
		body, other, err := New(s)
		if err != nil || other == digest {
			t.Errorf("%s: digest does not change (%v)", name, err)
		}
		if _, err := Parse(body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := example("a")
	again, _, _ := New(s)
	if !bytes.Equal(base, again) {
		t.Error("equal starts have different statements")
	}
}
