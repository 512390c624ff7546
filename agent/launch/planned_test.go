// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

func testPlan() *plan.Plan {
	return &plan.Plan{
		Config: strings.Repeat("c", 64), Rootfs: strings.Repeat("f", 64),
		Namespaces: unix.CLONE_NEWNS, Args: []string{"/x"}, Cwd: "/",
	}
}

// planOf is a deployment with a plan.
func planOf(content []byte) *deployment {
	sum := sha256.Sum256(content)
	d := &deployment{name: "x", plan: content, rec: &record.Record{}}
	d.rec.Atomic.ConfigSHA256, d.rec.Atomic.Rootfs.Image = strings.Repeat("c", 64), strings.Repeat("f", 64)
	d.rec.Atomic.Start.PlanSHA256 = hex.EncodeToString(sum[:])
	return d
}

func TestPeekPlan(t *testing.T) {
	good := testPlan().Encode()
	other := append([]byte{}, good...)
	other[12]++ // the version
	host := paths.Host{Root: t.TempDir()}
	dir := host.Current("x")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		content []byte
		want    string // "" if it is used, "none" if the other engine is
	}{
		"good":               {good, ""},
		"none":               {nil, "none"},
		"of another version": {other, "none"},
		"damaged":            {good[:len(good)-1], "it ends too early"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "plan")
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
			if tt.content != nil {
				if err := os.WriteFile(file, tt.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, data, err := peekPlan(host, "x")
			if tt.want == "" && (p == nil || !bytes.Equal(data, good)) {
				t.Errorf("got %v, %q", p, data)
			}
			checkPlanError(t, err, tt.want)
		})
	}
}

// checkPlanError wants no error for "" and that there is no plan for "none".
func checkPlanError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "":
		if err != nil {
			t.Errorf("got %v", err)
		}
	case want == "none":
		if !errors.Is(err, ErrNoPlan) {
			t.Errorf("got %v", err)
		}
	case err == nil || errors.Is(err, ErrNoPlan) || !strings.Contains(err.Error(), want):
		t.Errorf("got %v", err)
	}
}

func TestCheckPlan(t *testing.T) {
	changed := func(change func(*plan.Plan)) *plan.Plan {
		p := testPlan()
		change(p)
		return p
	}
	edited := planOf(testPlan().Encode())
	edited.rec.Atomic.Start.PlanSHA256 = strings.Repeat("0", 64)
	for name, tt := range map[string]struct {
		d    *deployment
		p    *plan.Plan
		want string
	}{
		"good":                  {planOf(testPlan().Encode()), testPlan(), ""},
		"none":                  {&deployment{name: "x", rec: &record.Record{}}, testPlan(), "none"},
		"not the recorded one":  {edited, testPlan(), "is not the one that was installed"},
		"not the peeked one":    {planOf(testPlan().Encode()), changed(func(p *plan.Plan) { p.UID = 1 }), "was changed while it was started"},
		"another configuration": {nil, changed(func(p *plan.Plan) { p.Config = strings.Repeat("0", 64) }), "for another configuration"},
		"another image":         {nil, changed(func(p *plan.Plan) { p.Rootfs = strings.Repeat("0", 64) }), "for another configuration or image"},
	} {
		t.Run(name, func(t *testing.T) {
			data := tt.p.Encode()
			if tt.d == nil {
				tt.d = planOf(data)
			}
			checkPlanError(t, tt.d.checkPlan(tt.p, data), tt.want)
		})
	}
}

func TestPlanCredentials(t *testing.T) {
	run := runDir(t.TempDir())
	p := testPlan()
	if _, err := run.bindCredentials(planConfig(p), "/run/credentials/x", "", false); !errors.Is(err, errNoMountPoint) {
		t.Errorf("without a place: %v", err)
	}
	target, err := run.bindCredentials(planConfig(p), "/run/credentials/x", "/run/host/notify", true)
	if err != nil || target != "/run/host/credentials" || len(p.Mounts) != 1 || p.Mounts[0].Set&unix.MOUNT_ATTR_RDONLY == 0 || p.Mounts[0].IDMap != plan.IDMapTop {
		t.Errorf("got %q, %v, %+v", target, err, p.Mounts)
	}
	if _, err := os.Stat(run.credentials()); err != nil {
		t.Error(err)
	}
	p = testPlan()
	p.Mounts = []plan.Mount{{Type: "tmpfs", Target: "/run"}}
	if target, err = run.bindCredentials(planConfig(p), "/run/credentials/x", "", false); err != nil || target != "/run/host/credentials" {
		t.Errorf("got %q, %v", target, err)
	}
}

// TestInitFile checks that the note about init is as good as libcontainer's own
// state: both name a process beyond doubt.
func TestInitFile(t *testing.T) {
	run := runDir(t.TempDir())
	if err := run.writeInit(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if alive, err := run.alive("x"); !alive || err != nil {
		t.Errorf("alive: %v, %v", alive, err)
	}
	if err := run.reconcile("x"); !errors.Is(err, errRunning) {
		t.Errorf("reconcile: %v", err)
	}
	data, err := os.ReadFile(run.init())
	if err != nil {
		t.Fatal(err)
	}
	// The same PID, of a process that started at another time.
	stale := strings.Replace(string(data), `"init_process_start":`, `"init_process_start":1`, 1)
	if err := os.WriteFile(run.init(), []byte(stale), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run.reconcile("x"); err != nil {
		t.Errorf("reconcile: %v", err)
	}
	if _, err := os.Stat(filepath.Join(string(run), "init")); err == nil {
		t.Error("the stale note is still there")
	}
}
