// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"strings"
	"testing"
)

// TestOffline installs from the store, without a registry.
func TestOffline(t *testing.T) {
	w := newWorld(t)
	img := w.push("library/etcd:1", etcd("1"))
	w.mustRun("pull", img)
	digest := w.mustRun("images", "list", "-q", "--no-trunc")
	w.push("library/etcd:1", etcd("2"))
	w.mustRun("install", "--system", "--name", "a", "--pull=missing", img)
	if out := w.mustRun("info", "a"); !strings.Contains(out, strings.TrimSpace(digest)) {
		t.Errorf("not the image in the store: %s", out)
	}
	w.down()
	w.mustRun("install", "--system", "--name", "b", img) // missing is the default
	w.mustRun("install", "--system", "--name", "c", "--pull=never", img)
	if _, errs, code := w.run("install", "--system", "--name", "d", "--pull=always", img); code != 1 || !strings.Contains(errs, "registry") {
		t.Errorf("--pull=always: %d, %s", code, errs)
	}
	if _, errs, code := w.run("install", "--system", "--pull=never", "http:"+w.addr+"/other"); code != 1 || !strings.Contains(errs, "atomic pull") {
		t.Errorf("--pull=never: %d, %s", code, errs)
	}
	if _, errs, code := w.run("install", "--system", "--pull=perhaps", img); code != 2 || !strings.Contains(errs, "none of always") {
		t.Errorf("--pull=perhaps: %d, %s", code, errs)
	}
	if out := w.mustRun("containers", "update", "--pull=never", "a"); out != "Latest version already installed.\n" {
		t.Errorf("update: %q", out)
	}
	w.mustRun("images", "tag", "etcd:1", "localhost/mine")
	w.mustRun("install", "--system", "--name", "etcd", "localhost/mine")
	if got := w.deployments(); got != "[a a.0 b b.0 c c.0 etcd etcd.0]" {
		t.Errorf("deployments: %s", got)
	}
}

// TestInsecure installs from a registry without TLS of which registries.conf
// says nothing: what was said at installation holds for updates.
func TestInsecure(t *testing.T) {
	w := newWorld(t)
	w.write("etc/containers/registries.conf", "")
	img := w.push("etcd:latest", etcd("1"))
	w.mustRun("install", "--system", img)
	if out := w.mustRun("info", "etcd"); !strings.Contains(out, "\nRegistry: may be asked without TLS\n") {
		t.Errorf("info: %s", out)
	}
	w.push("etcd:latest", etcd("2"))
	w.mustRun("containers", "update", "etcd")
	w.push("etcd:latest", etcd("3"))
	if out := w.mustRun("containers", "update", "--all"); !strings.Contains(out, " Updated now") {
		t.Errorf("update of all: %s", out)
	}
	if got := w.currentOf("etcd"); got != "etcd.2" {
		t.Errorf("current: %s", got)
	}
	// until another name is given, as other exceptions are
	full := strings.TrimPrefix(img, "http:")
	if _, errs, code := w.run("containers", "update", "--rebase", full, "etcd"); code != 1 || !strings.Contains(errs, "does not speak TLS") {
		t.Errorf("rebase to the name without http: %d, %s", code, errs)
	}
	w.mustRun("containers", "update", "--pull=never", "--rebase", full, "etcd")
	if out := w.mustRun("info", "etcd"); strings.Contains(out, "without TLS") {
		t.Errorf("info: %s", out)
	}
}

// TestOfflinePolicy is about images whose signatures are not at hand: what
// another policy, or none, has accepted is not accepted.
func TestOfflinePolicy(t *testing.T) {
	w := newWorld(t)
	t.Setenv("CONTAINERS_POLICY_JSON", "")
	img := w.push("etcd:latest", etcd("1"))
	w.mustRun("pull", img)
	w.write("key.gpg", "a key")
	w.mustRun("trust", "add", "-k", w.path("key.gpg"), w.addr)
	if _, errs, code := w.run("install", "--system", "--pull=never", img); code != 4 || !strings.Contains(errs, "it was not the policy of today") {
		t.Errorf("accepted by another policy: %d, %s", code, errs)
	}
	if _, errs, code := w.run("install", "--system", img); code == 0 {
		t.Errorf("accepted by another policy: %s", errs)
	}
	w.mustRun("pull", "--allow-unsigned", img)
	if _, _, code := w.run("install", "--system", "--pull=never", img); code != 4 {
		t.Errorf("accepted by an exception: exit code %d", code)
	}
	w.mustRun("install", "--system", "--pull=never", "--allow-unsigned", img)
	if out := w.mustRun("info", "etcd"); !strings.Contains(out, "an exception from the policy") {
		t.Errorf("the exception does not show: %s", out)
	}
}
