// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	tests := []struct {
		name    string
		opts    Options
		wantErr string
	}{
		{"zero", Options{}, ""},
		{"full", Options{Suite: "forky", Variant: Bench, Name: "a-1", Binds: []Bind{{Source: "/a", Target: "/b"}}, Layers: []string{"/l"}}, ""},
		{"name", Options{Name: "A b"}, "bed name"},
		{"slash", Options{Name: "../x"}, "bed name"},
		{"relative bind", Options{Binds: []Bind{{Source: "a", Target: "/b"}}}, "absolute"},
		{"tab", Options{Binds: []Bind{{Source: "/a\tb", Target: "/b"}}}, "tab"},
		{"layer", Options{Layers: []string{"/a:b"}}, "layer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.opts.withDefaults()
			switch {
			case tt.wantErr == "" && err != nil:
				t.Fatal(err)
			case tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)):
				t.Fatalf("error %v, want %q", err, tt.wantErr)
			case err == nil && (got.Suite == "" || got.Variant == "" || got.Name == "" || got.Log == nil):
				t.Errorf("left empty: %+v", got)
			}
		})
	}
}

func TestNewRecipe(t *testing.T) {
	seen := map[string]string{}
	for _, suite := range Suites {
		for _, variant := range []string{Base, Bench} {
			r, err := NewRecipe(suite, variant)
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[r.hash()]; ok {
				t.Errorf("%s-%s and %s have one hash", suite, variant, other)
			}
			seen[r.hash()] = suite + "-" + variant
		}
		if SystemdVersion(suite) == "" {
			t.Errorf("no systemd version for %s", suite)
		}
	}
	if _, err := NewRecipe("woody", Base); err == nil {
		t.Error("unknown suite accepted")
	}
	if _, err := NewRecipe("trixie", "fancy"); err == nil {
		t.Error("unknown variant accepted")
	}
}

func TestRecipeHash(t *testing.T) {
	a := Recipe{Suite: "trixie", Variant: "x", Packages: []string{"a", "b"}}
	b := Recipe{Suite: "trixie", Variant: "x", Packages: []string{"b", "a", "a"}}
	if a.hash() != b.hash() {
		t.Error("the hash depends on the packages' order")
	}
	b.Customize = []string{"true"}
	if a.hash() == b.hash() {
		t.Error("the hash does not depend on the customization")
	}
}

func TestDebianMirror(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"one line", map[string]string{"sources.list": "# deb http://a/debian x main\ndeb http://deb.debian.org/debian bookworm main\n"}, "http://deb.debian.org/debian"},
		{"options", map[string]string{"sources.list": "deb [arch=amd64 signed-by=/k] http://m/debian/ trixie main\n"}, "http://m/debian/"},
		{"deb822", map[string]string{"sources.list.d/debian.sources": "Types: deb\nURIs: http://mirror/debian\nSuites: trixie\n"}, "http://mirror/debian"},
		{
			"others first", map[string]string{
				"sources.list":                "",
				"sources.list.d/cloud.list":   "deb https://packages.example/apt cloud main\n",
				"sources.list.d/node.sources": "URIs: https://deb.example/node\n",
				"sources.list.d/sec.sources":  "URIs: http://m/debian-security\nuris: http://m/debian\n",
			}, "http://m/debian",
		},
		{"none", map[string]string{"sources.list": "deb http://m/ubuntu noble main\n"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := debianMirror(dir)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestBindTable(t *testing.T) {
	got := bindTable([]Bind{{Source: "/a b", Target: "/c"}, {Source: "/d", Target: "/e", ReadOnly: true}})
	if want := "rw\t/a b\t/c\nro\t/d\t/e\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestShellQuote(t *testing.T) {
	got := shellQuote([]string{"echo", "it's", "$HOME", ""})
	if want := `'echo' 'it'\''s' '$HOME' ''`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTailWriter(t *testing.T) {
	var w tailWriter
	for range 1000 {
		w.Write([]byte("0123456789")) //nolint:errcheck // memory
	}
	if got := w.String(); len(got) != 4096 || !strings.HasSuffix(got, "789") {
		t.Errorf("kept %d bytes, end %q", len(got), got[len(got)-5:])
	}
}
