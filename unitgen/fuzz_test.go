// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/unitgen"
)

// seeds adds one file of every case of testdata/render to a corpus.
func seeds(f *testing.F, pick func(unitgen.Exports) []byte) {
	files, err := filepath.Glob("testdata/render/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		_, in := loadCase(f, file)
		if data := pick(in.Exports); data != nil {
			f.Add(data)
		}
	}
}

// check renders an input and holds the result to what must be true of every
// rendered deployment, whatever the image says.
func check(t *testing.T, in unitgen.Input) *unitgen.Output {
	t.Helper()
	in.Name, in.DestDir, in.ImageName = "fuzz", "/var/lib/containers/atomic/fuzz.0", "registry.test/fuzz:1"
	in.Host.Launcher, in.Host.Agent = "/usr/libexec/atomic/atomic-launch", "/usr/bin/atomic"
	in.Host.Exists = func(string) bool { return false }
	in.Host.IsDir = func(p string) (bool, bool) { return len(p)%2 == 0, len(p)%3 == 0 }
	out, err := unitgen.Render(in)
	if err != nil {
		var p *unitgen.Problems
		if !errors.As(err, &p) || len(p.List) == 0 || err.Error() == "" {
			t.Fatalf("error %v is not *Problems", err)
		}
		return nil
	}
	var spec rspec.Spec
	if err := json.Unmarshal(out.Config, &spec); err != nil {
		t.Fatalf("config.json is not a specification: %v\n%s", err, out.Config)
	}
	if bytes.ContainsAny(out.DropIn, "\x00\r") {
		t.Fatalf("drop-in has control characters: %q", out.DropIn)
	}
	if n := bytes.Count(out.DropIn, []byte("\nExec")); n > 1 {
		t.Fatalf("drop-in has %d Exec lines:\n%s", n, out.DropIn)
	}
	if out.Unit != nil && strings.Contains(string(out.DropIn), "Type=notify") && spec.Root != nil && (!spec.Root.Readonly || spec.Root.Path != "rootfs") {
		t.Fatal("a writable root file system passed")
	}
	for _, m := range out.MountPoints {
		if !strings.HasPrefix(m.Path, "/") || filepath.Clean(m.Path) != m.Path || m.Path == "/" {
			t.Fatalf("mount point %q", m.Path)
		}
	}
	for _, f := range out.HostFiles {
		if filepath.Clean(f.Path) != f.Path || !filepath.IsAbs(f.Path) {
			t.Fatalf("host file %q", f.Path)
		}
	}
	for _, g := range out.Missing {
		if err := unitgen.ValidGrant(g); err != nil {
			t.Fatal(err)
		}
		if unitgen.Granted(in.Grants, g) {
			t.Fatalf("%q is missing and granted", g)
		}
	}
	return out
}

func FuzzConfig(f *testing.F) {
	seeds(f, func(e unitgen.Exports) []byte { return e.ConfigTemplate })
	f.Fuzz(func(t *testing.T, data []byte) {
		out := check(t, unitgen.Input{Exports: unitgen.Exports{ConfigJSON: append([]byte{}, data...)}})
		if out == nil || out.DropIn == nil {
			return
		}
		// Normalising is idempotent: what is written is a configuration of
		// today, which asks for the same.
		again := check(t, unitgen.Input{Exports: unitgen.Exports{ConfigJSON: out.Config}})
		if again == nil || !bytes.Equal(again.Config, out.Config) {
			t.Fatalf("config.json changes when it is normalised again:\n%s\n%v", out.Config, again)
		}
	})
}

func FuzzConfigTemplate(f *testing.F) {
	seeds(f, func(e unitgen.Exports) []byte { return e.ConfigTemplate })
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, unitgen.Input{Exports: unitgen.Exports{ConfigTemplate: append([]byte{}, data...)}})
	})
}

func FuzzUnit(f *testing.F) {
	seeds(f, func(e unitgen.Exports) []byte { return e.ServiceTemplate })
	f.Fuzz(func(t *testing.T, data []byte) {
		out := check(t, unitgen.Input{Exports: unitgen.Exports{ServiceTemplate: append([]byte{}, data...)}})
		if out == nil {
			return
		}
		// Every command that is not the launcher's shows in the report.
		for line := range strings.Lines(string(out.Unit)) {
			if cmd, ok := strings.CutPrefix(line, "ExecStartPre=/"); ok && len(out.Missing) == 0 && strings.TrimSpace(cmd) != "" {
				t.Fatalf("%q needs no grant", line)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	seeds(f, func(e unitgen.Exports) []byte { return e.Manifest })
	f.Fuzz(func(t *testing.T, data []byte) {
		data = append([]byte{}, data...)
		check(t, unitgen.Input{Exports: unitgen.Exports{Manifest: data, HostFS: []unitgen.HostFile{
			{Path: "/etc/a", Mode: 0o644, Content: data}, {Path: "/etc/b/c", Mode: 0o4755, Content: data},
		}}})
		unitgen.Lint(unitgen.Exports{Manifest: data, ServiceTemplate: data, ConfigTemplate: data, Tmpfiles: data})
	})
}

func FuzzTmpfiles(f *testing.F) {
	seeds(f, func(e unitgen.Exports) []byte { return e.Tmpfiles })
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, unitgen.Input{Exports: unitgen.Exports{Tmpfiles: append([]byte{}, data...)}})
	})
}

// FuzzValue puts any value into every kind of template. It must not change
// what the templates around it say.
func FuzzValue(f *testing.F) {
	for _, s := range []string{
		"", "x", "a b", "\"", "\\", "x\\", "\n", "x\nExecStartPre=/bin/x", `", "y": "`, "}", "],", "%n", "$NAME", "\x00", "\u2028", "é", "'", "#", ";",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		out := check(t, unitgen.Input{
			Set: map[string]string{"V": value},
			Exports: unitgen.Exports{
				Manifest:        []byte(`{}`),
				ServiceTemplate: []byte("[Service]\nEnvironment=A=$V\nExecStart=$EXEC_START\nDescription=$V\nRestart=no\n"),
				Tmpfiles:        []byte("d /run/fuzz 0700 root root - -\nf /run/fuzz/$V 0600 root root - $V\n"),
				ConfigTemplate: []byte(`{"process": {"args": ["x", "$V"], "env": ["V=$V"]}, "root": {"path": "rootfs", "readonly": true},
"linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]}}`),
			},
		})
		if out == nil {
			return
		}
		var spec rspec.Spec
		if err := json.Unmarshal(out.Config, &spec); err != nil {
			t.Fatal(err)
		}
		if len(spec.Process.Args) != 2 || len(spec.Process.Env) != 1 || len(spec.Mounts) != 0 || len(spec.Linux.Namespaces) != 4 {
			t.Fatalf("%q changed the configuration:\n%s", value, out.Config)
		}
		if n := bytes.Count(out.Unit, []byte("\n")); n != 5 {
			t.Fatalf("%q changed the unit:\n%s", value, out.Unit)
		}
		if n := bytes.Count(out.Tmpfiles, []byte("\n")); n != 2 {
			t.Fatalf("%q changed the tmpfiles:\n%s", value, out.Tmpfiles)
		}
	})
}
