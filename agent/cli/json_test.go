// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestJSON runs verbs with --json: standard output is one JSON value, in a
// shape that scripts can rely on, whatever is said beside it.
func TestJSON(t *testing.T) {
	w := newWorld(t)
	img := w.push("etcd:latest", etcd("1"))
	full := w.addr + "/etcd:latest"
	tests := []struct {
		args string
		keys string // of the object, or of the first object of the array
		want map[string]any
	}{
		{"pull " + img, "digest name status", map[string]any{"name": full, "status": "pulled"}},
		{"install --system --dry-run " + img, "config digest dropIn hostFiles image name permissions tmpfiles unit values", nil},
		{"install --system " + img, "deployment digest image name status", map[string]any{"name": "etcd", "status": "installed", "image": full, "deployment": 0.0}},
		{"install --system " + img, "deployment digest image name status", map[string]any{"status": "unchanged"}},
		{"containers update etcd", "deployment digest image name status", map[string]any{"status": "unchanged", "deployment": 0.0}},
		{"containers update --set ETCD_NAME=x --dry-run etcd", "config digest dropIn hostFiles image name permissions tmpfiles unit values", nil},
		{"containers update --set ETCD_NAME=x etcd", "deployment digest image name status", map[string]any{"status": "updated", "deployment": 1.0}},
		{"update --set ETCD_NAME=y etcd", "deployment digest image name status", map[string]any{"status": "updated", "deployment": 2.0}},
		{"containers update --all", "after before latest name status", map[string]any{"status": "Updated"}},
		{"rollback --dry-run etcd", "deployment digest dryRun image name status", map[string]any{"status": "rolled back", "deployment": 1.0, "dryRun": true}},
		{"containers rollback etcd", "deployment digest image name status", map[string]any{"status": "rolled back", "deployment": 1.0}},
		{"images tag etcd mine", "image name status", map[string]any{"name": "localhost/mine:latest", "status": "tagged"}},
		{"images update mine", "", nil}, // no registry has it
		{"images update etcd", "digest name status", map[string]any{"name": full, "status": "pulled"}},
		{"images delete --dry-run mine", "dryRun name status", map[string]any{"status": "deleted", "dryRun": true}},
		{"-y images delete mine", "name status", map[string]any{"name": "localhost/mine:latest", "status": "deleted"}},
		{"images prune --dry-run", "bytes dryRun objects status", map[string]any{"dryRun": true}},
		{"images prune", "bytes objects status", map[string]any{"status": "removed"}},
		{"store gc --dry-run", "bytes dryRun objects status", map[string]any{"objects": 0.0}},
		{"store gc", "bytes objects status", map[string]any{"objects": 0.0}},
		{"store export -o " + t.TempDir() + "/etcd.tar etcd", "name output status", map[string]any{"status": "exported"}},
		{"version", "version", nil},
		{"version etcd", "id name version", nil},
		{"containers trim", "name status", map[string]any{"status": "unchanged"}},
		{"uninstall --dry-run etcd", "dryRun files name status", map[string]any{"status": "uninstalled", "dryRun": true}},
		{"containers delete --dry-run etcd", "dryRun image name status", map[string]any{"name": "etcd", "dryRun": true}},
		{"-y containers delete etcd", "image name status", map[string]any{"name": "etcd", "status": "uninstalled"}},
		{"install --system " + img, "deployment digest image name status", nil},
		{"uninstall etcd", "name status", map[string]any{"name": "etcd", "status": "uninstalled"}},
		{"trust default accept", "name status", map[string]any{"status": "set"}},
		{"trust add -t reject x.example.com", "name status", map[string]any{"name": "x.example.com", "status": "set"}},
		{"trust delete x.example.com", "name status", map[string]any{"status": "removed"}},
		{"-y trust reset", "name status", map[string]any{"status": "set"}},
	}
	t.Setenv("CONTAINERS_POLICY_JSON", "")
	for _, tt := range tests {
		out, errs, code := w.run(append(strings.Fields(tt.args), "--json")...)
		if tt.keys == "" {
			if code == 0 || out != "" {
				t.Errorf("%s: exit code %d, %q", tt.args, code, out)
			}
			continue
		}
		if code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s", tt.args, code, out, errs)
		}
		got := firstObject(t, out)
		if diff := cmp.Diff(tt.keys, strings.Join(slices.Sorted(maps.Keys(got)), " ")); diff != "" {
			t.Errorf("%s: keys (-want +got):\n%s", tt.args, diff)
		}
		for k, v := range tt.want {
			if diff := cmp.Diff(v, got[k]); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", tt.args, k, diff)
			}
		}
	}
}

// firstObject parses an object or an array of objects.
func firstObject(t *testing.T, out string) map[string]any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	m, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("no object: %s", out)
	}
	return m
}

// TestDryRuns change nothing.
func TestDryRuns(t *testing.T) {
	w := newWorld(t)
	img := w.push("etcd:latest", etcd("1"))
	w.mustRun("install", "--system", img)
	w.mustRun("containers", "update", "--set", "ETCD_NAME=x", "etcd")
	w.mustRun("images", "delete", "-y", "--all")
	before, deployments := w.snapshot(), w.deployments()
	if out := w.mustRun("containers", "rollback", "--dry-run", "etcd"); !strings.HasPrefix(out, "Would roll etcd back to ") {
		t.Errorf("rollback: %s", out)
	}
	out := w.mustRun("uninstall", "--dry-run", "etcd")
	for _, want := range []string{"/etc/systemd/system.attached/etcd.service\n", "/usr/local/bin/etcd-ctl\n", "/var/lib/containers/atomic/etcd.1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("uninstall does not name %s:\n%s", want, out)
		}
	}
	if out := w.mustRun("images", "prune", "--dry-run"); !strings.HasPrefix(out, "Would remove ") {
		t.Errorf("prune: %s", out)
	}
	w.push("etcd:latest", etcd("2"))
	if out := w.mustRun("containers", "update", "--all", "--dry-run"); !strings.Contains(out, " Update available\n") {
		t.Errorf("update: %s", out)
	}
	if diff := cmp.Diff(before, w.snapshot()); diff != "" || w.deployments() != deployments {
		t.Errorf("a dry run has changed the host: %s %s", diff, w.deployments())
	}
	w.mustRun("verify", "etcd")
	w.mustRun("uninstall", "etcd")
	would, did := w.mustRun("images", "prune", "--dry-run"), w.mustRun("images", "prune")
	if strings.TrimPrefix(would, "Would remove ") != strings.TrimPrefix(did, "Removed ") || strings.HasPrefix(did, "Removed 0") {
		t.Errorf("%s is not %s", would, did)
	}
}

// TestDiff compares two images.
func TestDiff(t *testing.T) {
	w := newWorld(t)
	one, two := etcd("1"), etcd("2")
	two["etc/new"], one["etc/old"] = "x", "x"
	w.mustRun("pull", w.push("etcd:1", one))
	w.mustRun("pull", w.push("etcd:2", two))
	for _, tt := range []struct{ options, want string }{
		{"", "- \"/etc/old\"\n"},
		{"", "M \"/usr/bin/etcd\" (content)\n"},
		{"--names-only", "\"/etc/new\"\n"},
		{"--names-only --json", "    \"/etc/new\",\n"},
		{"-k mode,uid", "+ \"/etc/new\"\n"},
		{"-k sha256digest", "M \"/usr/bin/etcd\" (content)\n"},
	} {
		out, errs, code := w.run(append([]string{"diff", "etcd:1", "etcd:2"}, strings.Fields(tt.options)...)...)
		if code != 1 || errs != "" || !strings.Contains(out, tt.want) {
			t.Errorf("diff %s: exit code %d, no %q\n%s%s", tt.options, code, tt.want, out, errs)
		}
		if strings.HasPrefix(tt.options, "-k mode") && strings.Contains(out, "usr/bin/etcd") {
			t.Errorf("diff %s: %s", tt.options, out)
		}
	}
	if out := w.mustRun("diff", "etcd:1", "etcd:1", "--names-only", "--json"); out != "[]\n" {
		t.Errorf("no difference: %q", out)
	}
}
