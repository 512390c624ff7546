// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/install/record"
)

func example(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "info.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRoundTrip(t *testing.T) {
	want := example(t)
	rec, err := record.Read(strings.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	got, err := rec.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("record changed (-want +got):\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"truncated", "}\n}\n", "", "unexpected EOF"},
		{"trailing data", "}\n}\n", "}\n}\n{}", "data after"},
		{"unknown key", `"runtime"`, `"runtimes"`, "unknown field"},
		{"unknown version", `"version": 1`, `"version": 2`, "version 2"},
		{"name with a slash", `"name": "etcd"`, `"name": "../etcd"`, "name"},
		{"other unit", `"unit": "etcd.service"`, `"unit": "sshd.service"`, "does not belong"},
		{"image not a digest", strings.Repeat("d", 64), "../../etc", "not a digest"},
		{"manifest not a digest", `"sha256:aaaa`, `"sha512:aaaa`, "sha256:HEX"},
		{"unit path climbs", "/etc/systemd/system.attached/etcd.service", "/etc/../etcd.service", "clean absolute"},
		{"file without checksum", `"/usr/local/bin/etcdctl":`, `"/usr/local/bin/other":`, "checksum"},
		{"engine", `"engine": "oci"`, `"engine": "x"`, "engine"},
		{"runtime", `"engine": "oci"`, `"engine": "runtime"`, "engine"},
		{"runtime of another engine", `"engine": "oci"`, `"engine": "oci", "runtime": {"path": "/x", "kind": "crun"}`, "engine"},
		{"notify", `"notify": "relay"`, `"notify": "all"`, "notify"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := strings.Replace(example(t), tt.old, tt.new, 1)
			_, err := record.Read(strings.NewReader(in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"etcd", "etcd.0", "a-b_c", "E9"} {
		if err := record.CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", ".store", "-n", "a/b", "../x", "a b", "a\n", "é", "a@b", "a:b", strings.Repeat("x", 65)} {
		if record.CheckName(bad) == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

// FuzzRead checks that whatever Read accepts, Marshal writes and Read reads
// back the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(example(f)))
	f.Add([]byte(`{"atomic":{"version":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := record.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		out, err := rec.Marshal()
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		again, err := record.Read(bytes.NewReader(out))
		if err != nil {
			t.Fatalf("written but not read: %v", err)
		}
		if diff := cmp.Diff(rec, again); diff != "" {
			t.Fatalf("changed:\n%s", diff)
		}
	})
}
