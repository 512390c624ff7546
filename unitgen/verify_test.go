// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/unitgen"
)

// TestVerify has systemd itself check every unit of testdata/render.
func TestVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze:", err)
	}
	files, err := filepath.Glob("testdata/render/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			_, in := loadCase(t, file)
			// verify looks at the commands, and there is no launcher here.
			in.Host.Launcher = "/bin/true"
			out, err := unitgen.Render(in)
			if err != nil || out.Unit == nil {
				t.Skip("has no unit")
			}
			if strings.Contains(string(out.Unit), "\nX-NotVerifiable=") || out.Native {
				t.Skip("names programs that this host lacks")
			}
			dir := t.TempDir()
			service := filepath.Join(dir, in.Name+".service")
			write(t, service, out.Unit)
			write(t, filepath.Join(dir, in.Name+".service.d", "50-atomic.conf"), out.DropIn)
			name, mount := unitgen.MountUnit(in.Name, in.Generation, unitgen.RootfsMount{
				Where: in.DestDir + "/rootfs", Image: strings.Repeat("ab", 32), Verity: "try",
				Verify: "start", IDs: &unitgen.IDRange{First: 1 << 20, Count: 1 << 16},
			})
			write(t, filepath.Join(dir, name), mount)
			slice, err := os.ReadFile("../agent/units/atomic.slice")
			if err == nil {
				write(t, filepath.Join(dir, "atomic.slice"), slice)
			}
			cmd := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", service, filepath.Join(dir, name))
			cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":", "SYSTEMD_LOG_LEVEL=warning")
			if msg, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("systemd-analyze verify: %v\n%s%s\n%s", err, msg, out.Unit, out.DropIn)
			} else if len(msg) > 0 {
				t.Logf("%s", msg)
			}
		})
	}
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
