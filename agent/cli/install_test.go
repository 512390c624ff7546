// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/install/record"
)

func contextForMain() context.Context { return context.Background() }

func TestInstallAndUninstall(t *testing.T) {
	w := newWorld(t)
	img := w.push("library/etcd:3.5", etcd("3.5"))
	before := w.snapshot()
	out := w.mustRun("install", "--system", "--name", "etcd", "--set", "ETCD_NAME=one", img)
	for _, want := range []string{"Fetched ", "Created file /usr/local/bin/etcd-ctl", "Installed etcd from " + w.addr + "/library/etcd:3.5"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	rec, err := record.ReadFile(w.path("var/lib/containers/atomic/etcd/../etcd.0/info"))
	if err != nil {
		t.Fatal(err)
	}
	if rec.Values["ETCD_NAME"] != "one" || rec.Atomic.UserValues["ETCD_NAME"] != "one" || rec.Values["NAME"] != "etcd" {
		t.Errorf("values %v", rec.Values)
	}
	if target, err := os.Readlink(w.path("var/lib/containers/atomic/etcd")); target != "/var/lib/containers/atomic/etcd.0" || err != nil {
		t.Errorf("current: %q, %v", target, err)
	}
	for file, want := range map[string]string{
		"etc/systemd/system.attached/etcd.service":                   "ExecStart=/usr/libexec/atomic/atomic-launch start etcd",
		"etc/systemd/system.attached/etcd.service.d/50-atomic.conf":  "RequiresMountsFor=/var/lib/containers/atomic/etcd.0/rootfs",
		"etc/systemd/system.attached/" + rec.Atomic.Start.MountUnit:  rec.Atomic.Rootfs.Image,
		"etc/tmpfiles.d/etcd.conf":                                   "d /etc/etcd 0755",
		"etc/sysconfig/etcd":                                         "NAME=etcd",
		"usr/local/bin/etcd-ctl":                                     "etcdctl 3.5",
		"var/lib/containers/atomic/etcd.0/etcd.service":              "ExecStart=",
		"var/lib/containers/atomic/etcd.0/tmpfiles-etcd.conf":        "d /etc/etcd",
		"var/lib/containers/atomic/etcd.0/config.json":               "ETCD_NAME=one",
		"var/lib/containers/atomic/etcd.0/hostfs/etc/sysconfig/etcd": "NAME=etcd",
	} {
		if got := w.read(file); !strings.Contains(got, want) {
			t.Errorf("%s: no %q in\n%s", file, want, got)
		}
	}
	if out := w.mustRun("install", "--system", "--name", "etcd", img); out != "etcd already present\n" {
		t.Errorf("second install: %q", out)
	}
	listed := w.mustRun("containers", "list", "-a", "--json")
	var list []map[string]any
	if err := json.Unmarshal([]byte(listed), &list); err != nil || len(list) != 1 || list[0]["command"] != "/usr/bin/etcd" || list[0]["state"] != "inactive" {
		t.Errorf("list: %s (%v)", listed, err)
	}
	w.mustRun("uninstall", "etcd")
	if diff := cmp.Diff(before, w.snapshot()); diff != "" {
		t.Errorf("host differs from before (-before +after):\n%s", diff)
	}
	if left := w.deployments(); left != "[]" {
		t.Errorf("left behind: %s", left)
	}
	_, errs, code := w.run("uninstall", "etcd")
	if code != 3 || !strings.Contains(errs, "System container 'etcd' is not installed") {
		t.Errorf("second uninstall: %d, %s", code, errs)
	}
	if out := w.mustRun("images", "list", "-n"); !strings.Contains(out, w.addr+"/library/etcd 3.5") {
		t.Errorf("images: %q", out)
	}
}

// TestFailuresChangeNothing is about every way in which an installation ends
// early: the host is what it was.
func TestFailuresChangeNothing(t *testing.T) {
	with := func(change func(testImage)) func(*world) []string {
		return func(w *world) []string {
			img := etcd("1")
			change(img)
			return []string{w.push("etcd:1", img)}
		}
	}
	tests := []struct {
		name string
		args func(w *world) []string
		code int
		want string // in the error
		hint string
	}{
		{"no such image", func(w *world) []string { return []string{"http:" + w.addr + "/none:1"} }, 1, "no such image", "check the name"},
		{"variable without a value", with(func(i testImage) { i["exports/service.template"] += "# $MISSING\n" }), 1, "unreplaced value for: ''MISSING''", "--set"},
		{"broken config", with(func(i testImage) { i["exports/config.json.template"] = "{" }), 1, "config.json", ""},
		{"missing grant", with(func(i testImage) {
			i["exports/config.json.template"] = strings.Replace(i["exports/config.json.template"], "CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", 1)
		}), 4, "permissions on the host", "--grant cap:NET_ADMIN"},
		{"unit is there", func(w *world) []string {
			w.write("etc/systemd/system.attached/etcd.service", "mine")
			return []string{"--name", "etcd", w.push("etcd:1", etcd("1"))}
		}, 1, "The file /etc/systemd/system.attached/etcd.service already exists.", "--name"},
		{"tmpfiles is there", func(w *world) []string {
			w.write("etc/tmpfiles.d/etcd.conf", "mine")
			return []string{"--name", "etcd", w.push("etcd:1", etcd("1"))}
		}, 1, "The file /etc/tmpfiles.d/etcd.conf already exists.", "--name"},
		{"parent is a file", func(w *world) []string {
			w.write("etc/sysconfig", "a file")
			return []string{w.push("etcd:1", etcd("1"))}
		}, 1, "/etc/sysconfig", ""},
		{"policy", func(w *world) []string {
			w.write("etc/containers/policy.json", `{"default":[{"type":"reject"}]}`)
			return []string{w.push("etcd:1", etcd("1"))}
		}, 4, "rejected by the signature policy", "--allow-unsigned"},
		{"name with a slash", func(w *world) []string { return []string{"--name", "../etcd", w.push("etcd:1", etcd("1"))} }, 1, "name", "--name"},
		{"bad --set", func(w *world) []string { return []string{"--set", "X", "etcd"} }, 1, "Expected form NAME=VALUE", "--set"},
		{"no image", func(*world) []string { return nil }, 2, "accepts 1 arg", "--help"},
		{"unknown option", func(*world) []string { return []string{"--nope", "etcd"} }, 2, "unknown flag", "--help"},
		{"system and user", func(*world) []string { return []string{"--user", "etcd"} }, 2, "exclude each other", "--help"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			args := append([]string{"install", "--system"}, tt.args(w)...)
			before := w.snapshot()
			out, errs, code := w.run(args...)
			if code != tt.code || !strings.Contains(errs, tt.want) || !strings.Contains(errs, tt.hint) {
				t.Errorf("exit code %d, want %d\n%s%s", code, tt.code, out, errs)
			}
			if diff := cmp.Diff(before, w.snapshot()); diff != "" {
				t.Errorf("host changed:\n%s", diff)
			}
			if left := w.deployments(); left != "[]" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// TestSharedDirectories installs two containers that need the same directories:
// whichever goes last takes them along.
func TestSharedDirectories(t *testing.T) {
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		w := newWorld(t)
		img := w.push("etcd:1", etcd("1"))
		before := w.snapshot()
		w.mustRun("install", "--system", "--name", "a", img)
		out := w.mustRun("install", "--system", "--name", "b", img)
		if !strings.Contains(out, "File /etc/sysconfig/etcd already exists") {
			t.Errorf("no word about the file of the other:\n%s", out)
		}
		w.mustRun("uninstall", order[0])
		w.mustRun("uninstall", order[1])
		if diff := cmp.Diff(before, w.snapshot()); diff != "" {
			t.Errorf("host differs from before:\n%s", diff)
		}
	}
}

func TestModifiedHostFileStays(t *testing.T) {
	w := newWorld(t)
	w.mustRun("install", "--system", "--name", "etcd", w.push("etcd:1", etcd("1")))
	w.write("etc/sysconfig/etcd", "NAME=mine\n")
	out := w.mustRun("uninstall", "etcd")
	if !strings.Contains(out, "Will not delete /etc/sysconfig/etcd as it was manually modified.") {
		t.Errorf("no word about it:\n%s", out)
	}
	if got := w.read("etc/sysconfig/etcd"); got != "NAME=mine\n" {
		t.Errorf("content %q", got)
	}
}

func TestDryRun(t *testing.T) {
	w := newWorld(t)
	img := w.push("etcd:1", etcd("1"))
	before := w.snapshot()
	out := w.mustRun("install", "--system", "--display", "--json", img)
	var got struct{ Name, Unit string }
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Name != "etcd-1" || !strings.Contains(got.Unit, "Description=etcd 1") {
		t.Errorf("%v: %s", err, out)
	}
	if diff := cmp.Diff(before, w.snapshot()); diff != "" || w.deployments() != "[]" {
		t.Errorf("host changed: %s %s", diff, w.deployments())
	}
}

func TestInfo(t *testing.T) {
	w := newWorld(t)
	w.mustRun("pull", w.push("library/etcd:1", etcd("1")))
	out := w.mustRun("info", "etcd:1")
	for _, want := range []string{
		"Image Name: " + w.addr + "/library/etcd:1\n", "atomic.type: system\n",
		"Template variables with default value, but overridable with --set:\nCONF_DIRECTORY: {SET_BY_OS}\n", "ETCD_NAME: default\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}
