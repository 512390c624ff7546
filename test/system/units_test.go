// SPDX-License-Identifier: Apache-2.0

package system

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/unitgen"
)

// nativeStart finds what systemd itself starts in an image.
var nativeStart = regexp.MustCompile(`(?m)^ExecStart=:@?(/\S+)`)

// verifyUnits checks the units of each directory of /srv/units as systemd reads
// them, and prints what it has to say.
const verifyUnits = `status=0
for dir in /srv/units/*; do
	SYSTEMD_UNIT_PATH=$dir: systemd-analyze verify --man=no --recursive-errors=no $dir/*.service $dir/*.mount >/tmp/out 2>&1 || {
		status=1
		echo "== ${dir##*/}"
		cat /tmp/out
	}
done
exit $status`

// TestUnits has every systemd that we know verify every unit that the golden
// files of unitgen hold.
func TestUnits(t *testing.T) {
	if os.Geteuid() != 0 {
		skipGroup(t)
	}
	if testing.Short() {
		t.Skip("system tests are not short")
	}
	files := goldenUnits(t)
	ctx := life(t)
	for _, suite := range bed.Suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			b, err := bed.Boot(ctx, bed.Options{Suite: suite, Product: true})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}()
			for path, content := range files {
				native := nativeStart.FindStringSubmatch(content)
				if native != nil && suite == "bookworm" {
					path += ".not-read" // settings that systemd 252 does not know
				}
				if err := b.Write(ctx, path, 0o644, strings.NewReader(content)); err != nil {
					t.Fatal(err)
				}
				if native == nil {
					continue
				}
				// The program is in the image, but verify looks for it here.
				if err := b.Write(ctx, native[1], 0o755, strings.NewReader("#!/bin/sh\n")); err != nil {
					t.Fatal(err)
				}
			}
			res, err := b.Run(ctx, "sh", "-c", verifyUnits)
			if err != nil {
				t.Errorf("%v\n%s", err, res.Stdout)
			}
		})
	}
}

// goldenUnits are the units of unitgen's golden files by their path in the bed.
func goldenUnits(t *testing.T) map[string]string {
	t.Helper()
	cases, err := filepath.Glob("../../unitgen/testdata/render/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	files := map[string]string{}
	for _, file := range cases {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var service, unit, dropIn string
		for _, f := range ar.Files {
			name, ok := strings.CutPrefix(f.Name, "want/")
			switch {
			case ok && strings.HasSuffix(name, ".service"):
				service, unit = name, string(f.Data)
			case ok && name == "50-atomic.conf":
				dropIn = string(f.Data)
			}
		}
		if unit == "" || strings.Contains(unit, "\nX-NotVerifiable=") {
			continue // none, or it names programs that no host has
		}
		dir := "/srv/units/" + strings.TrimSuffix(filepath.Base(file), ".txtar")
		name := strings.TrimSuffix(service, ".service")
		mount, content := unitgen.MountUnit(name, 0, unitgen.RootfsMount{
			Where: "/var/lib/containers/atomic/" + name + ".0/rootfs", Image: strings.Repeat("ab", 32), Verity: "try",
			Verify: "start", IDs: &unitgen.IDRange{First: 1 << 20, Count: 1 << 16},
		})
		files[dir+"/"+service] = unit
		files[dir+"/"+service+".d/50-atomic.conf"] = dropIn
		files[dir+"/"+mount] = string(content)
	}
	return files
}
