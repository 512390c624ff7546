// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// render renders a deployment with one template and one value $V.
func render(t *testing.T, template, value string) (string, error) {
	t.Helper()
	out, err := unitgen.Render(unitgen.Input{
		Name:    "x",
		DestDir: "/d",
		Set:     map[string]string{"V": value, "_v1": "low", "V1": "one"},
		Exports: unitgen.Exports{
			Manifest: []byte(`{"noContainerService": true, "installedFilesTemplate": ["/usr/local/f"]}`),
			HostFS:   []unitgen.HostFile{{Path: "/usr/local/f", Mode: 0o644, Content: []byte(template)}},
		},
	})
	if err != nil {
		return "", err
	}
	return string(out.HostFiles[0].Content), nil
}

func TestSubstitution(t *testing.T) {
	tests := []struct {
		name, template, value, want, err string
	}{
		{"plain", "a", "", "a", ""},
		{"empty", "", "", "", ""},
		{"name", "$V", "v", "v", ""},
		{"braces", "<${V}>", "v", "<v>", ""},
		{"longest name", "$V1 $V-1", "v", "one v-1", ""},
		{"underscore", "$_v1", "", "low", ""},
		{"dollar", "$$V $$", "v", "$V $", ""},
		{"dollars", "$$$V", "v", "$v", ""},
		{"no recursion", "$V", "${V}-$$x", "${V}-$$x", ""},
		{"digit", "a\n $1", "", "", "Invalid placeholder in string: line 2, col 2"},
		{"lone at end", "a $", "", "", "Invalid placeholder in string: line 1, col 3"},
		{"unclosed", "${V", "", "", "Invalid placeholder in string: line 1, col 1"},
		{"shell default", "${V:-b}", "", "", "Invalid placeholder in string: line 1, col 1"},
		{"empty braces", "${}", "", "", "Invalid placeholder in string: line 1, col 1"},
		{"not ASCII", "é $é", "", "", "Invalid placeholder in string: line 1, col 3"},
		{"unknown", "$NO", "", "", "unreplaced value for: ''NO''"},
		{"not UTF-8", "\xff$V", "v", "\xffv", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := render(t, tt.template, tt.value)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// TestDefaultValueText checks that default values which are not strings have
// the text that Python gives them.
func TestDefaultValueText(t *testing.T) {
	tests := map[string]string{
		`"s"`: "s", `true`: "True", `false`: "False", `null`: "None", `7`: "7", `-0`: "0", `1.50`: "1.5", `2.0`: "2.0",
		`1e3`: "1000.0", `1e16`: "1e+16", `0.00001`: "1e-05", `123456789012345678901`: "123456789012345678901",
		`1e999`: "inf", `-1e999`: "-inf",
		`["a", 1, null]`: "['a', 1, None]", `{"b": [true], "a": {}}`: "{'b': [True], 'a': {}}",
		`["it's", "\"'", "\n\\", "é", "\u0001"]`: `["it's", '"\'', '\n\\', 'é', '\x01']`,
		`{"a": 1, "b": 2, "a": 3}`:               "{'a': 3, 'b': 2}",
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			m, err := unitgen.ParseManifest([]byte(`{"defaultValues": {"V": ` + text + `}}`))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.DefaultValues["V"]; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestValidName(t *testing.T) {
	for _, name := range []string{"etcd", "etcd-3.5", "a", "A.b-c", "0", strings.Repeat("a", 64)} {
		if err := unitgen.ValidName(name); err != nil {
			t.Errorf("ValidName(%q) = %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "../evil", "a/b", "a b", "-a", "a-", ".a", "a.", "a..b", "a_b", "é", "a\n", "a%b", "a@b",
		strings.Repeat("a", 65),
	} {
		if err := unitgen.ValidName(name); err == nil || hint.Of(err) == "" {
			t.Errorf("ValidName(%q) = %v, want an error with a hint", name, err)
		}
	}
}

func TestGranted(t *testing.T) {
	tests := []struct {
		grant, want string
		ok          bool
	}{
		{"all", "cap:SYS_ADMIN", true},
		{"cap:NET_ADMIN", "cap:NET_ADMIN", true},
		{"cap:NET_ADMIN", "cap:NET_RAW", false},
		{"cap:ALL", "cap:NET_RAW", true},
		{"path:/etc:rw", "path:/etc/foo:ro", true},
		{"path:/etc:rw", "path:/etc:rw", true},
		{"path:/etc:ro", "path:/etc/foo:rw", false},
		{"path:/etc:ro", "path:/etcetera:ro", false},
		{"path:/:ro", "path:/etc/shadow:ro", true},
		{"path:/etc", "path:/etc:ro", false},
		{"hostfs:/usr/bin", "hostfs:/usr/bin/x", true},
		{"hostfs:/usr/bin", "setuid:/usr/bin/x", false},
		{"exec:ExecStartPre", "exec:ExecStartPre=/bin/x", true},
		{"exec:ExecStartPre=/bin/x", "exec:ExecStartPre=/bin/y", false},
		{"unit:Delegate", "unit:Delegate=yes", true},
		{"device:*:rwm", "device:/dev/char/1:2:r", true},
		{"device:block-8:r", "device:block-8:rwm", false},
		{"ns:pid-host", "ns:ipc-host", false},
		{"all:", "cap:X", false},
	}
	for _, tt := range tests {
		if got := unitgen.Granted([]string{"port:1/tcp", tt.grant}, tt.want); got != tt.ok {
			t.Errorf("Granted(%q, %q) = %t", tt.grant, tt.want, got)
		}
	}
}

// TestMissingIsEnough checks for every case that the grants a deployment says
// it misses are grants, and that with them it misses none.
func TestMissingIsEnough(t *testing.T) {
	files, err := filepath.Glob("testdata/render/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, in := loadCase(t, file)
			in.Grants = nil
			out, err := unitgen.Render(in)
			if err != nil {
				t.Skip("is refused")
			}
			for _, g := range out.Missing {
				if err := unitgen.ValidGrant(g); err != nil {
					t.Error(err)
				}
			}
			in.Grants = out.Missing
			again, err := unitgen.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			if len(again.Missing) > 0 {
				t.Errorf("still missing: %q", again.Missing)
			}
		})
	}
}

// TestPure checks that rendering twice gives the same.
func TestPure(t *testing.T) {
	_, in := loadCase(t, "testdata/render/hostile-reach.txtar")
	a, errA := unitgen.Render(in)
	b, errB := unitgen.Render(in)
	if errA != nil || errB != nil {
		t.Fatal(errors.Join(errA, errB))
	}
	if d := cmp.Diff(a, b); d != "" {
		t.Error(d)
	}
}
