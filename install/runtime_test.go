// SPDX-License-Identifier: Apache-2.0

package install

import (
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/unitgen"
)

func TestParseVersion(t *testing.T) {
	for name, tt := range map[string]struct{ text, kind, version string }{
		"crun":    {"crun version 1.21\ncommit: 10269840\n", record.Crun, "1.21"},
		"runc":    {"runc version 1.1.15+ds1\ncommit: 1.1.15+ds1-2+b4\n", record.Runc, "1.1.15+ds1"},
		"another": {"runsc version release-20260101.0\n", record.OtherRuntime, ""},
		"nothing": {"", record.OtherRuntime, ""},
		"a word":  {"crun\n", record.OtherRuntime, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if kind, version := parseVersion(tt.text); kind != tt.kind || version != tt.version {
				t.Errorf("got %q %q", kind, version)
			}
		})
	}
}

func TestOlder(t *testing.T) {
	for version, want := range map[string]bool{
		"1.1.15+ds1": true, "0.9": true, "1.2.0": false, "1.3.6": false, "2.0": false, "1.2-rc.1": false, "": false, "x.y": false,
	} {
		if older(version, 1, 2) != want {
			t.Errorf("%q: want %t", version, want)
		}
	}
}

func TestRuntimeCheck(t *testing.T) {
	mapped := &unitgen.Output{Config: []byte(`{"mounts": [{"destination": "/a"}, {"destination": "/b", "options": ["bind", "idmap"]}]}`)}
	plain := &unitgen.Output{Config: []byte(`{"mounts": [{"destination": "/a", "options": ["bind"]}]}`)}
	for name, tt := range map[string]struct {
		kind, version string
		out           *unitgen.Output
		want          string
	}{
		"old runc":              {record.Runc, "1.1.15", mapped, "the volume at /b would be nobody's"},
		"old runc, unmapped":    {record.Runc, "1.1.15", plain, ""},
		"new runc":              {record.Runc, "1.3.6", mapped, ""},
		"crun":                  {record.Crun, "1.8.1", mapped, ""},
		"one that nobody knows": {record.OtherRuntime, "", mapped, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rt := &ociRuntime{Runtime: record.Runtime{Kind: tt.kind}, version: tt.version}
			if err := rt.check(tt.out); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
