// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMeasureDevice runs the tests of package tpm that need the kernel's own
// TPM device: its resource manager, and clients that are killed while it works.
func TestMeasureDevice(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tpm.test")
	if !testing.Short() {
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, "github.com/atomic-agent/atomic/tpm")
		build.Env = append(build.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	v := boot(t, Options{Initrd: true})
	if err := v.CopyIn(t.Context(), program, "/root/tpm.test"); err != nil {
		t.Fatal(err)
	}
	t.Log(sh(t, v, `
mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
cd /root && chmod +x tpm.test && ATOMIC_TEST_TPM=/dev/tpmrm0 ./tpm.test -test.v -test.run '^TestDevice$' 2>&1`))
}
