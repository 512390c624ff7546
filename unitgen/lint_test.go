// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/unitgen"
)

func TestLint(t *testing.T) {
	const goodConfig = `{"process": {"args": ["x"]}, "root": {"path": "rootfs", "readonly": true},
 "mounts": [{"type": "bind", "source": "$STATE_DIRECTORY/x", "destination": "/x"}]}`
	const goodUnit = "[Service]\nExecStart=$EXEC_START\nExecStop=$EXEC_STOP\nWorkingDirectory=$DESTDIR\n"
	tests := []struct {
		name    string
		exports unitgen.Exports
		want    string
	}{
		{"good", unitgen.Exports{Manifest: []byte(`{}`), ConfigTemplate: []byte(goodConfig), ServiceTemplate: []byte(goodUnit)}, ""},
		{"nothing", unitgen.Exports{}, "warning: /exports/manifest.json: is missing, so no variable has a default"},
		{"variables", unitgen.Exports{
			Manifest: []byte(`{"defaultValues": {"A": 1, "B": 2}}`), ServiceTemplate: []byte(goodUnit + "Environment=$A\n  ${C}=\n"),
		}, `
warning: /exports/manifest.json: no template uses the default value B
warning: /exports/service.template:6:3: $C has no default: every installation needs --set C=VALUE`},
		{"verbatim config", unitgen.Exports{Manifest: []byte(`{}`), ConfigJSON: []byte(`{"root": {"path": "/", "readonly": false}, "process": {"terminal": true},
"linux": {"selinuxProcessLabel": "x"},
"mounts": [
{"type": "rbind", "source": "/var/lib/x"},
{"type": "bind", "source": "/run/y"}]}`)}, `
error: /exports/config.json:1: is used verbatim: make it config.json.template, so that its values can be set
warning: /exports/config.json:1:10: root.path is not rootfs
error: /exports/config.json:1:10: root.readonly is not true: Only readonly images are supported
error: /exports/config.json:1:68: process.terminal is not false: a service has no terminal
error: /exports/config.json:2:34: linux.selinuxProcessLabel was never in the specification: use process.selinuxLabel
error: /exports/config.json:4:1: mount type rbind: use type bind with the option rbind
warning: /exports/config.json:4:29: mount source /var/lib/x: use $STATE_DIRECTORY instead of /var/lib
warning: /exports/config.json:5:28: mount source /run/y: use $RUN_DIRECTORY instead of /run`},
		{"unit", unitgen.Exports{Manifest: []byte(`{}`), ServiceTemplate: []byte("[Service]\nExecStart=/bin/x\nrubbish\n")}, `
warning: /exports/service.template: ExecStop= is missing
warning: /exports/service.template: WorkingDirectory= is missing
warning: /exports/service.template: does not use $EXEC_START for ExecStart=
error: /exports/service.template:3:1: neither section nor assignment: "rubbish"`},
		{"syntax", unitgen.Exports{Manifest: []byte(`{`), ConfigTemplate: []byte("{$"), Tmpfiles: []byte("d x\n")}, `
error: /exports/config.json.template:1:2: Invalid placeholder in string: line 1, col 2
error: /exports/manifest.json:1:2: Invalid manifest.json file in image: unexpected end of JSON input
error: /exports/tmpfiles.template:1:1: tmpfiles path "x" is not an absolute, clean path`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var lines []string
			for _, f := range unitgen.Lint(tt.exports) {
				lines = append(lines, f.String())
			}
			if d := cmp.Diff(strings.TrimSpace(tt.want), strings.Join(lines, "\n")); d != "" {
				t.Errorf("findings (-want +got):\n%s", d)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	got := unitgen.Variables(unitgen.Exports{
		Manifest:        []byte(`{"defaultValues": {"A": true, "UNUSED": 1}, "renameFiles": {"/x": "/etc/$NAME"}, "installedFilesTemplate": ["/etc/f"]}`),
		ConfigTemplate:  []byte("$A ${STATE_DIRECTORY} $$B $1"),
		ServiceTemplate: []byte("$C"),
		HostFS:          []unitgen.HostFile{{Path: "/etc/f", Content: []byte("$D")}, {Path: "/etc/g", Content: []byte("$E")}},
	})
	want := []unitgen.Variable{
		{Name: "A", Default: "True", HasDefault: true},
		{Name: "C"},
		{Name: "D"},
		{Name: "NAME", Host: true},
		{Name: "STATE_DIRECTORY", Host: true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("variables (-want +got):\n%s", d)
	}
}
