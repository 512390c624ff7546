// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRefusals is about what the verbs say no to: the exit code and the words
// that scripts look for.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.mustRun("install", "--system", w.push("etcd:latest", etcd("1")))
	tests := []struct {
		args string
		code int
		want string
	}{
		{"stop none", 3, "is not installed"},
		{"stop etcd", 1, "does not run"},
		{"stop", 2, "accepts 1 arg"},
		{"stop --storage docker etcd", 1, "no storage"},
		{"cat none", 3, "is not installed"},
		{"rollback etcd", 1, "Cannot find a previous deployment to rollback located at"},
		{"rollback none", 3, "System container 'none' is not installed"},
		{"containers update none", 3, "System container 'none' is not installed"},
		{"containers delete", 1, "You must select --all or provide a list of containers to delete."},
		{"containers delete --all etcd", 1, "You must select --all"},
		{"containers delete none", 3, "is not installed"},
		{"containers delete etcd", 2, "aborted"},
		{"containers list -f nonsense=1", 1, "The filter nonsense=1 is not valid.  Please choose from ["},
		{"images list -f nonsense=1", 1, "is not valid"},
		{"images list -f nonsense", 1, "is not formatted correctly"},
		{"images delete", 1, "You must select --all"},
		{"images delete nothing", 1, "no container and no image"},
		{"images delete etcd", 2, "aborted"},
		{"images tag none x", 1, "no container and no image"},
		{"images tag etcd UPPER", 1, "image name"},
		{"images update -f etcd", 1, "--force is not supported"},
		{"images update", 2, "name one image"},
		{"images version", 2, "requires at least 1 arg"},
		{"info --remote etcd", 1, "--remote is not supported"},
		{"verify none", 1, "no container and no image"},
		{"lint none", 1, "atomic pull none"},
		{"diff -r etcd etcd", 1, "packages are not compared"},
		{"diff -k nonsense etcd etcd", 2, "no keyword"},
		{"store export --json etcd", 2, "use -o FILE"},
		{"run --json etcd true", 2, "--json excludes a command that runs in the foreground"},
		{"containers update --all --userns host", 1, "--all excludes"},
		{"install --user etcd", 1, "--user does not work"},
		{"install --runtime /bin/x --name other etcd", 1, "Cannot install the container: the runtime /bin/x is not installed"},
		{"install --rootfs /x etcd", 1, "--rootfs is not supported"},
		{"install --storage docker etcd", 1, "no storage"},
		{"install --system-package yes etcd", 1, "is not supported"},
		{"trust add x", 1, "at least one public key"},
		{"trust add -k /none x", 1, "public key"},
		{"trust add -t nonsense x", 2, "none of signedBy"},
		{"trust delete x", 1, "says nothing about x"},
		{"trust default perhaps", 2, "invalid argument"},
		{"update --dry-run none", 2, "are for containers"},
		{"nonsense", 2, "unknown command"},
		{"-y -i containers delete none", 3, "is not installed"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			out, errs, code := w.run(strings.Fields(tt.args)...)
			if code != tt.code || !strings.Contains(errs, tt.want) {
				t.Errorf("exit code %d, want %d with %q\n%s%s", code, tt.code, tt.want, out, errs)
			}
		})
	}
	if got := w.deployments(); got != "[etcd etcd.0]" {
		t.Errorf("deployments: %s", got)
	}
}

func TestContainersDelete(t *testing.T) {
	w := newWorld(t)
	img := w.push("etcd:latest", etcd("1"))
	for _, name := range []string{"a", "b", "c"} {
		w.mustRun("install", "--system", "--name", name, img)
	}
	if out := w.mustRun("containers", "delete", "--dry-run", "a"); !strings.Contains(out, "ID NAME IMAGE_NAME") || !strings.Contains(out, "ostree") {
		t.Errorf("table: %s", out)
	}
	w.mustRun("-y", "containers", "delete", "a", "b")
	if got := w.deployments(); got != "[c c.0]" {
		t.Errorf("deployments: %s", got)
	}
	w.mustRun("containers", "delete", "--all", "--assumeyes")
	if _, errs, code := w.run("containers", "delete", "--all"); code != 1 || !strings.Contains(errs, "No containers to delete") {
		t.Errorf("nothing to delete: %d, %s", code, errs)
	}
}

func TestImages(t *testing.T) {
	w := newWorld(t)
	img := w.push("library/etcd:1", etcd("1"))
	w.mustRun("pull", img)
	full := w.addr + "/library/etcd:1"
	if out := w.mustRun("images", "tag", "etcd:1", "mine"); out != "Tagged etcd:1 as localhost/mine:latest\n" {
		t.Errorf("tag: %q", out)
	}
	if out := w.mustRun("images", "version", "mine"); !strings.Contains(out, "IMAGE NAME") || !strings.Contains(out, "localhost/mine:latest") {
		t.Errorf("version: %q", out)
	}
	var list []struct{ Repo, Tag, ID string }
	must(json.Unmarshal([]byte(w.mustRun("images", "list", "--json")), &list))
	if len(list) != 2 || list[0].ID != list[1].ID {
		t.Errorf("list: %v", list)
	}
	if out := w.mustRun("images", "delete", "--dry-run", list[0].ID[:8], "mine"); !strings.Contains(out, "IMAGE") {
		t.Errorf("table: %s", out)
	}
	w.mustRun("-y", "images", "delete", "mine")

	// the registry has another version by now
	if out := w.mustRun("verify", "etcd:1"); out != "" {
		t.Errorf("verify without a difference: %q", out)
	}
	w.push("library/etcd:1", etcd("2"))
	if out := w.mustRun("images", "verify", "etcd:1"); !strings.Contains(out, "REMOTE VERSION") || !strings.Contains(out, "True") {
		t.Errorf("verify: %q", out)
	}
	w.mustRun("images", "tag", full, "mine")
	out, errs, code := w.run("images", "update", "--all")
	if code != 0 || !strings.Contains(out, "SUMMARY") || !strings.Contains(out, "Updated now") || !strings.Contains(errs, "skipping") {
		t.Errorf("update: %d\n%s%s", code, out, errs)
	}
	if out := w.mustRun("update", "etcd:1"); !strings.Contains(out, "Pulled "+full+"@sha256:") {
		t.Errorf("update of an image: %q", out)
	}
	if out := w.mustRun("update", "--all", "--json"); !strings.Contains(out, `"status": "Updated"`) {
		t.Errorf("update of all images: %q", out)
	}
	w.mustRun("images", "delete", "-y", "--all")
	if out := w.mustRun("images", "prune"); !strings.HasPrefix(out, "Removed ") || strings.HasPrefix(out, "Removed 0 objects") {
		t.Errorf("prune: %q", out)
	}
	if out := w.mustRun("images", "list", "--json"); out != "[]\n" {
		t.Errorf("left: %s", out)
	}
}

func TestVerifyContainers(t *testing.T) {
	w := newWorld(t)
	if out := w.mustRun("verify"); out != "Everything is as it was installed.\n" {
		t.Errorf("verify of nothing: %q", out)
	}
	w.mustRun("install", "--system", w.push("etcd:latest", etcd("1")))
	if out := w.mustRun("verify", "etcd"); out != "Everything is as it was installed.\n" {
		t.Errorf("verify: %q", out)
	}
	// what an administrator may change
	w.write("etc/sysconfig/etcd", "mine")
	if out := w.mustRun("verify", "etcd"); out != "etcd: /etc/sysconfig/etcd was modified\n" {
		t.Errorf("verify of a modified file: %q", out)
	}
	// and what nobody may
	for _, damage := range []struct{ file, want string }{
		{"etc/systemd/system.attached/etcd.service", "etcd.service was modified"},
		{"var/lib/containers/atomic/etcd.0/config.json", "is not the one that was installed"},
		{"var/lib/containers/atomic/etcd.0/etcd.service", "is not the copy of"},
	} {
		before := w.read(damage.file)
		w.write(damage.file, before+"\n")
		if out, errs, code := w.run("verify"); code != 1 || !strings.Contains(out, damage.want) || !strings.Contains(errs, "not as they were installed") {
			t.Errorf("%s: exit code %d\n%s%s", damage.file, code, out, errs)
		}
		w.write(damage.file, before)
	}
	must(os.Mkdir(w.path("var/lib/containers/atomic/stray.0"), 0o755))
	if out, _, code := w.run("verify"); code != 0 || strings.Contains(out, "stray") {
		t.Errorf("what a command may have begun: %d, %s", code, out)
	}
	w.write("var/lib/containers/atomic/stray.0/info", "")
	if out, _, code := w.run("verify"); code != 1 || !strings.Contains(out, "stray.0 belongs to no container") {
		t.Errorf("a stray directory: %d, %s", code, out)
	}
}

func TestCat(t *testing.T) {
	w := newWorld(t)
	w.mustRun("install", "--system", w.push("etcd:latest", etcd("1")))
	w.write("etc/systemd/system/etcd.service.d/mine.conf", "[Service]\nNice=5\n")
	out := w.mustRun("cat", "etcd")
	last := 0
	for _, want := range []string{
		"# /etc/systemd/system.attached/etcd.service (rendered from the template of " + w.addr + "/etcd:latest)\n",
		"# /etc/systemd/system.attached/etcd.service.d/50-atomic.conf (written by atomic)\n",
		"# /etc/systemd/system/etcd.service.d/mine.conf (written by the administrator)\n[Service]\nNice=5\n",
		".mount (written by atomic)\n", "# /etc/tmpfiles.d/etcd.conf (what ",
	} {
		i := strings.Index(out, want)
		if i < last {
			t.Errorf("no %q in its place in\n%s", want, out)
		}
		last = i
	}
	w.write("etc/systemd/system.attached/etcd.service", w.read("etc/systemd/system.attached/etcd.service")+"# x\n")
	if out := w.mustRun("cat", "--json", "etcd"); !strings.Contains(out, "modified since") {
		t.Errorf("modified: %s", out)
	}
}

func TestLint(t *testing.T) {
	w := newWorld(t)
	w.mustRun("pull", w.push("etcd:latest", etcd("1")))
	if out, _, code := w.run("lint", "etcd"); code != 0 {
		t.Errorf("lint: %d, %s", code, out)
	}
	dir := t.TempDir()
	must(os.Mkdir(filepath.Join(dir, "exports"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "exports", "config.json"), []byte("{}"), 0o600))
	for _, where := range []string{dir, filepath.Join(dir, "exports")} {
		if out, _, code := w.run("lint", where); code != 1 || !strings.Contains(out, "error: /exports/config.json:1") {
			t.Errorf("lint of %s: %d, %s", where, code, out)
		}
	}
	if out, _, code := w.run("lint", "--json", dir); code != 1 || !strings.Contains(out, `"line": 1,`) || !strings.Contains(out, `"level": "error"`) {
		t.Errorf("lint --json: %d, %s", code, out)
	}
}

func TestTrust(t *testing.T) {
	w := newWorld(t)
	t.Setenv("CONTAINERS_POLICY_JSON", "")
	w.write("key.gpg", "a key")
	w.mustRun("trust", "default", "reject")
	w.mustRun("trust", "add", "-k", w.path("key.gpg"), "--sigstore", "https://sigs.example.com", "registry.example.com/team")
	w.mustRun("trust", "add", "-t", "insecureAcceptAnything", "localhost:5000")
	want := "* (default)               reject\n" +
		"localhost:5000            accept\n" +
		"registry.example.com/team signed key.gpg https://sigs.example.com\n"
	if diff := cmp.Diff(want, w.mustRun("trust", "show")); diff != "" {
		t.Errorf("show (-want +got):\n%s", diff)
	}
	if got := w.read("etc/containers/registries.d/registry.example.com-team.yaml"); !strings.Contains(got, "lookaside: https://sigs.example.com") {
		t.Errorf("lookaside: %s", got)
	}
	// the policy decides from now on
	if _, errs, code := w.run("pull", w.push("etcd:latest", etcd("1"))); code != 4 || !strings.Contains(errs, "rejected by the signature policy") {
		t.Errorf("pull: %d, %s", code, errs)
	}
	w.mustRun("trust", "add", "-t", "insecureAcceptAnything", w.addr)
	w.mustRun("pull", w.addr+"/etcd:latest")
}

func TestTrustReplaces(t *testing.T) {
	w := newWorld(t)
	t.Setenv("CONTAINERS_POLICY_JSON", "")
	w.mustRun("trust", "add", "-t", "reject", "x.example.com")
	before := w.read("etc/containers/policy.json")
	if _, _, code := w.run("trust", "add", "-t", "insecureAcceptAnything", "x.example.com"); code != 2 {
		t.Errorf("replaced without a yes: exit code %d", code)
	}
	if w.read("etc/containers/policy.json") != before {
		t.Error("changed without a yes")
	}
	w.mustRun("-y", "trust", "add", "-t", "insecureAcceptAnything", "x.example.com")
	if out := w.mustRun("trust", "show", "--json"); !strings.Contains(out, `"x.example.com"`) || !strings.Contains(out, `"accept"`) {
		t.Errorf("show: %s", out)
	}
	w.mustRun("trust", "remove", "x.example.com")
	w.mustRun("trust", "reset", "-y")
	if out := w.mustRun("trust", "show"); out != "* (default) reject\n" {
		t.Errorf("after the reset: %q", out)
	}
	if out := w.mustRun("trust", "show", "--raw"); out != w.read("etc/containers/policy.json") {
		t.Errorf("raw: %s", out)
	}
}
