// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOptionsOutliveUpdates is about --env, --volume and --property: they are
// kept until they are replaced or forgotten.
func TestOptionsOutliveUpdates(t *testing.T) {
	w := newWorld(t)
	img := w.push("etcd:latest", etcd("1"))
	w.mustRun(
		"install", "--system", "-e", "ETCD_DEBUG=yes", "--env", "ETCD_NAME=mine", "-v", "extra:/srv/extra:ro",
		"--property", "MemoryMax=512M", "--property", "After=a.service", img,
	)
	config := func() string {
		return w.read("var/lib/containers/atomic/etcd/../" + w.currentOf("etcd") + "/config.json")
	}
	dropIn := func() string { return w.read("etc/systemd/system.attached/etcd.service.d/50-atomic.conf") }
	for _, want := range []string{`"ETCD_DEBUG=yes"`, `"ETCD_NAME=mine"`, `"source": "/var/lib/etcd/extra"`} {
		if !strings.Contains(config(), want) {
			t.Errorf("no %s in %s", want, config())
		}
	}
	if got := dropIn(); !strings.Contains(got, "MemoryMax=512M\n") || !strings.Contains(got, "After=a.service\n") {
		t.Errorf("drop-in %s", got)
	}

	w.push("etcd:latest", etcd("2"))
	w.mustRun("containers", "update", "--property", "MemoryMax=1G", "-e", "ETCD_DEBUG=no", "etcd")
	if got := config(); !strings.Contains(got, `"ETCD_DEBUG=no"`) || !strings.Contains(got, `"ETCD_NAME=mine"`) || !strings.Contains(got, "/srv/extra") {
		t.Errorf("config after the update: %s", got)
	}
	if got := dropIn(); !strings.Contains(got, "MemoryMax=1G\n") || strings.Contains(got, "512M") || !strings.Contains(got, "After=a.service\n") {
		t.Errorf("drop-in after the update: %s", got)
	}
	if out := w.mustRun("containers", "update", "etcd"); out[strings.LastIndexByte(out[:len(out)-1], '\n')+1:] != "Latest version already installed.\n" {
		t.Errorf("update without a change: %q", out)
	}
	if out := w.mustRun("info", "etcd"); !strings.Contains(out, "Environment: ETCD_DEBUG=no\n") || !strings.Contains(out, "Property: MemoryMax=1G\n") {
		t.Errorf("info: %s", out)
	}
	before := w.snapshot()
	if out := w.mustRun("containers", "update", "--forget-options", "--dry-run", "etcd"); !strings.Contains(out, "# etcd.service\n") || strings.Contains(out, "MemoryMax") {
		t.Errorf("dry run: %s", out)
	}
	if diff := cmp.Diff(before, w.snapshot()); diff != "" {
		t.Errorf("a dry run has changed the host: %s", diff)
	}
	w.mustRun("containers", "update", "--forget-options", "etcd")
	if got := config() + dropIn(); strings.Contains(got, "ETCD_DEBUG") || strings.Contains(got, "MemoryMax") {
		t.Errorf("not forgotten: %s", got)
	}
	w.mustRun("containers", "rollback", "etcd")
	if got := config() + dropIn(); !strings.Contains(got, "ETCD_DEBUG=no") || !strings.Contains(got, "MemoryMax=1G") {
		t.Errorf("not rolled back: %s", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	w := newWorld(t)
	img := w.push("etcd:latest", etcd("1"))
	for _, tt := range []struct{ option, value, want string }{
		{"--env", "X", "is not NAME=VALUE"},
		{"--volume", "/x", "is not SOURCE:DESTINATION"},
		{"--publish", "80:81", "shares the host's network"},
		{"--property", "ExecStart=/bin/true", "atomic's own"},
		{"--property", "MemoryMax", "is not KEY=VALUE"},
	} {
		if _, errs, code := w.run("install", "--system", tt.option, tt.value, img); code != 1 || !strings.Contains(errs, tt.want) {
			t.Errorf("%s %s: exit code %d, %s", tt.option, tt.value, code, errs)
		}
	}
	if left := w.deployments(); left != "[]" {
		t.Errorf("left behind: %s", left)
	}
}
