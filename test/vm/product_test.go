// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/test/images"
)

// registryStorage returns the storage directory of a registry with the images.
func registryStorage(t *testing.T, patterns ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a virtual machine takes too long for -short")
	}
	list, err := images.Select(patterns...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := images.NewBuilder(testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := b.Storage(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestProduct is the main job on a kernel of its own, with what a bed lacks:
// fs-verity, a TPM device, and resource controllers.
func TestProduct(t *testing.T) {
	v := boot(t, Options{Product: true, Registry: registryStorage(t, "etcd:3.5", "hello:limited")})
	// The subtests are one story: each needs the ones before.
	for _, step := range []struct {
		name string
		do   func(*testing.T, *VM)
	}{
		{"Install", installEtcd},
		{"Verity", verityEnforced},
		{"Measured", measured},
		{"Limits", limits},
		{"Reboot", rebootEtcd},
		{"PowerCut", powerCutEtcd},
		{"Uninstall", uninstall},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.do(t, v) }) {
			return
		}
	}
}

// An emulated machine may need longer than etcdctl would wait.
const etcdctl = "chroot /var/lib/containers/atomic/etcd/rootfs etcdctl --dial-timeout=1m --command-timeout=2m "

func installEtcd(t *testing.T, v *VM) {
	sh(t, v, "atomic install --system etcd && systemctl start etcd")
	sh(t, v, etcdctl+"put greeting hello")
	if got := sh(t, v, etcdctl+"get --print-value-only greeting"); got != "hello" {
		t.Errorf("etcd says %q", got)
	}
	if got := sh(t, v, "ps -o ppid=,comm= -p $(systemctl show -P MainPID etcd)"); strings.Join(strings.Fields(got), " ") != "1 etcd" {
		t.Errorf("the unit's main process is %q, want systemd's own child etcd", got)
	}
	if got := sh(t, v, "machinectl show --value -p Unit etcd"); got != "etcd.service" {
		t.Errorf("machined says the unit of etcd is %q", got)
	}
}

func verityEnforced(t *testing.T, v *VM) {
	info := sh(t, v, "cat /var/lib/containers/atomic/etcd/info")
	if !strings.Contains(info, `"enforced": true`) && !strings.Contains(info, `"enforced":true`) {
		t.Errorf("the record does not say that the kernel verifies the root file system:\n%s", info)
	}
	if got := sh(t, v, "findmnt -no OPTIONS /var/lib/containers/atomic/etcd/rootfs"); !strings.Contains(got, "verity=require") {
		t.Errorf("rootfs is mounted with %s", got)
	}
	// One object loses its fs-verity: the kernel must refuse the file.
	res, err := v.Run(t.Context(), "sh", "-ec", `cd /var/lib/containers/atomic
obj=$(find .store/objects -type f -size +1M | head -n1)
fsverity measure "$obj"`)
	if err != nil {
		t.Errorf("an object of the store has no fs-verity: %v %s", err, res.Stdout)
	}
}

// measured checks that the log explains the register of the TPM.
func measured(t *testing.T, v *VM) {
	replay := sh(t, v, "atomic attest log --replay")
	register := strings.ToLower(sh(t, v, "tpm2_pcrread -o /dev/stdout sha256:8 -Q | od -An -v -tx1 | tr -d ' \\n'"))
	if register == strings.Repeat("0", 64) || !strings.Contains(replay, register) {
		t.Errorf("register is %s, the log replays to\n%s", register, replay)
	}
	if log := sh(t, v, "atomic attest log"); !strings.Contains(log, "etcd") {
		t.Errorf("the log does not name etcd:\n%s", log)
	}
}

// limits checks that limits in an image's template hold its payload.
func limits(t *testing.T, v *VM) {
	sh(t, v, "atomic install --system --name limited hello:limited && systemctl start limited")
	for file, want := range map[string]string{"memory.max": fmt.Sprint(64 << 20), "pids.max": "32", "cpu.max": "50000 100000"} {
		got := sh(t, v, "cat /sys/fs/cgroup$(systemctl show -P ControlGroup limited)/"+file)
		if got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	// It asks for more than it may have, and is gone before it can answer.
	_, _ = v.Run(t.Context(), "bash", "-c",
		`exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /alloc?mb=200 HTTP/1.0\r\n\r\n' >&3; cat <&3`)
	// Whatever still has to be done for the dead unit is done after this.
	sh(t, v, "systemctl stop limited")
	for key, want := range map[string]string{"Result": "oom-kill", "ActiveState": "failed"} {
		if got := sh(t, v, "systemctl show -P "+key+" limited"); got != want {
			t.Errorf("%s of the unit is %q, want %q", key, got, want)
		}
	}
	// machined forgets it when it hears of that.
	sh(t, v, "while machinectl show limited >/dev/null 2>&1; do :; done")
	sh(t, v, "systemctl reset-failed limited; atomic uninstall limited")
}

func rebootEtcd(t *testing.T, v *VM) {
	if err := v.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	stillThere(t, v, "hello")
	// The registers were reset, and so was the log.
	measured(t, v)
}

func powerCutEtcd(t *testing.T, v *VM) {
	sh(t, v, etcdctl+"put greeting again")
	if err := v.PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	stillThere(t, v, "again")
}

// stillThere checks that etcd came back at boot, with its data.
func stillThere(t *testing.T, v *VM, want string) {
	t.Helper()
	if got := sh(t, v, "systemctl is-active etcd"); got != "active" {
		t.Errorf("etcd is %s", got)
	}
	if got := sh(t, v, etcdctl+"get --print-value-only greeting"); got != want {
		t.Errorf("etcd says %q, want %q", got, want)
	}
	if got := sh(t, v, "systemctl --failed --plain --no-legend"); got != "" {
		t.Errorf("failed units:\n%s", got)
	}
}

func uninstall(t *testing.T, v *VM) {
	sh(t, v, "atomic uninstall etcd")
	got := sh(t, v, `findmnt -rno TARGET | grep /var/lib/containers || :
systemctl list-unit-files --no-legend 'etcd*' || :
ls -A /etc/systemd/system.attached || :`)
	if got != "" {
		t.Errorf("left behind:\n%s", got)
	}
}
