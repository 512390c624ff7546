// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/unitgen"
)

// A templated file that is renamed with a variable is found by the name it
// gets, which only the same variable can say.
func TestTemplateFollowsRename(t *testing.T) {
	out, err := unitgen.Render(unitgen.Input{
		Name: "other", Generation: 1, DestDir: "/var/lib/containers/atomic/other.1",
		Exports: unitgen.Exports{
			Manifest: []byte(`{"noContainerService": true, "defaultValues": {"X": "1"},
				"renameFiles": {"/usr/local/share/a": "/usr/local/share/$NAME"},
				"installedFilesTemplate": ["/usr/local/share/${NAME}/f"]}`),
			HostFS: []unitgen.HostFile{{Path: "/usr/local/share/a/f", Mode: 0o644, Content: []byte("$NAME $X\n")}},
			Lookup: func(string) (unitgen.Entry, bool) { return unitgen.Entry{}, false },
		},
		Host: unitgen.HostFacts{Exists: func(string) bool { return false }, Verity: "try"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.HostFiles) != 1 || out.HostFiles[0].Path != "/usr/local/share/other/f" || string(out.HostFiles[0].Content) != "other 1\n" {
		t.Errorf("got %+v", out.HostFiles)
	}
	if !slices.Equal(out.HostFileTemplates, []string{"/usr/local/share/other/f"}) || len(out.Warnings) > 0 {
		t.Errorf("templates %q, warnings %s", out.HostFileTemplates, strings.Join(out.Warnings, "; "))
	}
}
