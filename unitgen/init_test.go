// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/unitgen"
)

// TestInit is about which payload gets a process 1, and what follows from that.
func TestInit(t *testing.T) {
	const script = "#!/bin/sh\nserver\n"
	for name, tt := range map[string]struct {
		option, isolation string
		text              string
		template          bool
		want, problem     string
	}{
		"a script":                    {"", "", script, false, "auto", ""},
		"a script, said so":           {"auto", "", script, false, "auto", ""},
		"not wanted":                  {"no", "", script, false, "", ""},
		"wanted":                      {"yes", "", "#!/bin/sh\nexec server\n", false, "yes", ""},
		"a script that execs":         {"", "", "#!/bin/sh\nexec server\n", false, "", ""},
		"in the host's namespaces":    {"", "fly", script, false, "", ""},
		"the template decides":        {"", "", script, true, "", ""},
		"the administrator overrules": {"yes", "", script, true, "yes", ""},
		"a word":                      {"maybe", "", script, false, "", `"maybe" is none of auto, yes and no`},
	} {
		t.Run(name, func(t *testing.T) {
			in := unitgen.Input{
				Name: "web", DestDir: "/var/lib/containers/atomic/web.0", ImageName: "registry.test/web",
				Options: unitgen.Options{Init: tt.option, Isolation: tt.isolation},
				Host:    unitgen.HostFacts{Launcher: "/usr/libexec/atomic/atomic-launch", NoUserNS: "none here"},
			}
			in.ImageConfig.Architecture = "amd64"
			in.ImageConfig.Config.Entrypoint = []string{"/entry.sh", "a"}
			if tt.template {
				in.Exports.ConfigTemplate = []byte(`{"ociVersion":"1.0.2","process":{"args":["/entry.sh"],"cwd":"/"},"root":{"path":"rootfs","readonly":true},"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}`)
			}
			in.Exports.Lookup = func(p string) (unitgen.Entry, bool) { return unitgen.Entry{Mode: 0o755}, p == "/entry.sh" }
			in.Exports.ReadFile = func(p string) ([]byte, error) {
				if p == "/entry.sh" {
					return []byte(tt.text), nil
				}
				return nil, fs.ErrNotExist
			}
			out, err := unitgen.Render(in)
			var problems *unitgen.Problems
			switch {
			case tt.problem != "":
				if !errors.As(err, &problems) || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("got %v", err)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			behind := slices.ContainsFunc(out.Permissions, func(p unitgen.Permission) bool { return strings.Contains(p.Grant, "atomic-init") && !p.Default })
			if out.Init != tt.want || behind {
				t.Errorf("init %q, permissions %v", out.Init, out.Permissions)
			}
			if got := strings.Contains(string(out.Config), `"/.atomic-init"`); got != (tt.want != "") {
				t.Errorf("process 1 in the configuration: %t", got)
			}
			if got := strings.Contains(string(out.DropIn), "SuccessExitStatus=129 130 141 143\n"); got != (tt.want != "") {
				t.Errorf("exit statuses in the drop-in: %t", got)
			}
		})
	}
}
