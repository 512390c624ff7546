// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

func load(t *testing.T, files map[string]string) (*Config, string, error) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, "etc/atomic", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(paths.Host{Root: root})
	return c, root, err
}

func TestLoad(t *testing.T) {
	with := func(change func(*Config)) *Config {
		c := Default()
		change(c)
		return c
	}
	tests := []struct {
		name  string
		files map[string]string
		want  *Config
	}{
		{"nothing", nil, Default()},
		{"empty file", map[string]string{"atomic.conf": ""}, Default()},
		{"size", map[string]string{"atomic.conf": "[Store]\nMaxMetadata=1G\nVerify=start\n"}, with(func(c *Config) { c.Store.MaxMetadata = 1 << 30; c.Store.Verify = "start" })},
		{"one key", map[string]string{"atomic.conf": "[Store]\nVerity=require\n"}, with(func(c *Config) { c.Store.Verity = Require })},
		{"spaces and comments", map[string]string{"atomic.conf": "# c\r\n  [TPM]\t\n; c\n Measure = off \n\nDevice=unix:/run/t"}, with(func(c *Config) {
			c.TPM.Measure, c.TPM.Device = Off, "unix:/run/t"
		})},
		{"drop-ins in name order", map[string]string{
			"atomic.conf":           "[Install]\nKeep=3\n",
			"atomic.conf.d/20.conf": "[Install]\nKeep=5\n",
			"atomic.conf.d/10.conf": "[Install]\nKeep=4\n[Machined]\nRegister=no\n",
			"atomic.conf.d/90.bak":  "nonsense",
			"atomic.conf.d/.x.conf": "nonsense",
		}, with(func(c *Config) { c.Install.Keep, c.Machined.Register = 5, false })},
		{"empty assignment restores", map[string]string{
			"atomic.conf":           "[TPM]\nMeasure=require\nRegister=pcr:12\n",
			"atomic.conf.d/10.conf": "[TPM]\nMeasure=\n",
		}, with(func(c *Config) { c.TPM.Register = "pcr:12" })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := load(t, tt.files)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestLoadProblems(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown section", "[Stroe]\nVerity=off\n", `:1: unknown section "[Stroe]"`},
		{"open section", "[Store\nVerity=off\n", `:1: unknown section "[Store"`},
		{"unknown key", "[Store]\n\nverity=off\n", `:3: unknown key "verity" in [Store]`},
		{"key of another section", "[TPM]\nVerity=off\n", `:2: unknown key "Verity" in [TPM]`},
		{"no section", "Verity=off\n", `:1: "Verity" stands before the first section`},
		{"no assignment", "[Store]\nVerity\n", `:2: "Verity" is neither a section nor Key=value`},
		{"verify", "[Store]\nVerify=yes\n", ":2: Verify=yes: must be start or never"},
		{"size", "[Store]\nMaxMetadata=64MB\n", ":2: MaxMetadata=64MB: must be a size, for example 64M"},
		{"no size", "[Store]\nMaxMetadata=0\n", ":2: MaxMetadata=0: must be a size, for example 64M"},
		{"policy", "[Store]\nVerity=yes\n", ":2: Verity=yes: must be off, try or require"},
		{"register syntax", "[TPM]\nRegister=8\n", ":2: Register=8: must be pcr:N"},
		{"register owned", "[TPM]\nRegister=pcr:15\n", ":2: Register=pcr:15: PCR 15 belongs to another owner or can be reset; use pcr:8 (or 12, 13, 14)"},
		{"device", "[TPM]\nDevice=tpm0\n", ":2: Device=tpm0: must be an absolute path or unix:/path"},
		{"engine", "[Launch]\nEngine=crun\n", ":2: Engine=crun: must be plan or oci"},
		{"runtime", "[Launch]\nRuntime=crun\n", ":2: Runtime=crun: must be an absolute path"},
		{"keep", "[Install]\nKeep=0\n", ":2: Keep=0: must be a number from 1"},
		{"bool", "[Machined]\nRegister=maybe\n", ":2: Register=maybe: must be yes or no"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, root, err := load(t, map[string]string{"atomic.conf": tt.text})
			if err == nil {
				t.Fatal("no error")
			}
			if got := strings.TrimPrefix(err.Error(), filepath.Join(root, "etc/atomic/atomic.conf")); got != tt.want {
				t.Errorf("error\n%s\nwant\n%s", got, tt.want)
			}
			if hint.Of(err) == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestLoadReportsAllProblems(t *testing.T) {
	_, root, err := load(t, map[string]string{
		"atomic.conf":          "[Store]\nVerity=x\nFoo=1\n",
		"atomic.conf.d/a.conf": "[Bar]\n",
	})
	if err == nil {
		t.Fatal("no error")
	}
	want := strings.Join([]string{
		root + "/etc/atomic/atomic.conf:2: Verity=x: must be off, try or require",
		root + `/etc/atomic/atomic.conf:3: unknown key "Foo" in [Store]`,
		root + `/etc/atomic/atomic.conf.d/a.conf:1: unknown section "[Bar]"`,
	}, "\n")
	if err.Error() != want {
		t.Errorf("errors\n%s\nwant\n%s", err, want)
	}
}

// The shipped file must show every key, with its default.
func TestExample(t *testing.T) {
	data, err := os.ReadFile("../../docs/atomic.conf")
	if err != nil {
		t.Fatal(err)
	}
	if c, _, err := load(t, map[string]string{"atomic.conf": string(data)}); err != nil || cmp.Diff(Default(), c) != "" {
		t.Errorf("the commented file is not the default: %v, %v", c, err)
	}
	assignment := regexp.MustCompile(`(?m)^#([A-Z][A-Za-z]*=)`)
	text := assignment.ReplaceAllString(string(data), "$1")
	if c, _, err := load(t, map[string]string{"atomic.conf": text}); err != nil || cmp.Diff(Default(), c) != "" {
		t.Errorf("the uncommented file is not the default: %v, %v", c, err)
	}
	var shown, want []string
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		} else if name, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			shown = append(shown, section+name)
		}
	}
	for _, k := range keys {
		want = append(want, "["+k.section+"]"+k.name)
	}
	if d := cmp.Diff(want, shown); d != "" {
		t.Errorf("keys of docs/atomic.conf: -want +got\n%s", d)
	}
}
