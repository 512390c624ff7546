// SPDX-License-Identifier: Apache-2.0

package intent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/install/intent"
)

func sample() *intent.Intent {
	return &intent.Intent{
		Verb: intent.Install, Name: "etcd", From: intent.None, To: 0, Fresh: true,
		Steps: []intent.Step{
			{Path: "/etc/etcd", Kind: intent.Dir, After: "0"},
			{Path: "/etc/etcd/etcd.conf", Kind: intent.File, After: strings.Repeat("a", 64)},
		},
	}
}

func TestWriteReadRemove(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "intents")
	if names, err := intent.List(dir); err != nil || names != nil {
		t.Fatalf("List of nothing = %v, %v", names, err)
	}
	want := sample()
	if err := intent.Write(dir, want); err != nil {
		t.Fatal(err)
	}
	// What a crash in Write may leave is no intent.
	if err := os.WriteFile(filepath.Join(dir, ".x.json.atomic-tmp"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := intent.List(dir)
	if err != nil || !cmp.Equal(names, []string{"etcd"}) {
		t.Fatalf("List = %v, %v", names, err)
	}
	got, err := intent.Read(dir, "etcd")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	for range 2 { // idempotent
		if err := intent.Remove(dir, "etcd"); err != nil {
			t.Fatal(err)
		}
	}
	if in, err := intent.Read(dir, "etcd"); in != nil || err != nil {
		t.Errorf("after Remove: %v, %v", in, err)
	}
}

func TestReadRefuses(t *testing.T) {
	tests := []struct{ name, old, new string }{
		{"version", `"version": 1`, `"version": 2`},
		{"unknown key", `"fresh"`, `"stale"`},
		{"verb", `"install"`, `"instal"`},
		{"no change", `"to": 0`, `"to": -1`},
		{"name of another", `"name": "etcd"`, `"name": "flannel"`},
		{"relative path", `"/etc/etcd"`, `"etc/etcd"`},
		{"climbing path", `"/etc/etcd"`, `"/etc/../etcd"`},
		{"kind", `"kind": "dir"`, `"kind": "device"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := intent.Write(dir, sample()); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "etcd.json")
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(data), tt.old) {
				t.Fatalf("no %q in %s", tt.old, data)
			}
			if err := os.WriteFile(file, []byte(strings.Replace(string(data), tt.old, tt.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := intent.Read(dir, "etcd"); err == nil {
				t.Error("accepted")
			}
		})
	}
}
