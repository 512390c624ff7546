// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/system"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

const minimalConfig = `{"ociVersion":"1.2.0","process":{"args":["/bin/true"],"cwd":"/","user":{"uid":0,"gid":0}},"linux":{}}`

// deploy installs a deployment by hand below a new root.
func deploy(t *testing.T, config string, change func(*record.Record)) paths.Host {
	t.Helper()
	host := paths.Host{Root: t.TempDir()}
	digest := strings.Repeat("a", 64)
	sum := sha256.Sum256([]byte(config))
	rec := &record.Record{
		Image: "registry.test/hello:1", Revision: digest, HasContainerService: true,
		Atomic: record.Deployment{
			Name: "hello", ManifestDigest: "sha256:" + digest, ConfigDigest: "sha256:" + digest,
			Rootfs:       record.Rootfs{Type: "composefs", Image: digest, Verity: "try"},
			ConfigSHA256: hex.EncodeToString(sum[:]),
			Start:        record.Start{Unit: "hello.service", MountUnit: "x.mount", Notify: "launcher", Engine: "oci"},
		},
	}
	if change != nil {
		change(rec)
	}
	info, err := rec.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dir := host.Deployment("hello", 0)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755),
		os.WriteFile(filepath.Join(dir, "info"), info, 0o644),
		os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644),
		os.Symlink("hello.0", host.Current("hello")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return host
}

func TestOpen(t *testing.T) {
	host := deploy(t, minimalConfig, nil)
	d, err := open(host, "hello")
	if err != nil {
		t.Fatal(err)
	}
	if string(d.config) != minimalConfig || d.rec.Image != "registry.test/hello:1" || len(d.digest) != 64 {
		t.Errorf("got %+v", d)
	}
	if filepath.Base(d.rootfs()) != "rootfs" || filepath.Base(d.dir) != "hello.0" {
		t.Errorf("root file system at %s", d.rootfs())
	}
	if err := d.checkMounted(); err == nil || !strings.Contains(hint.Of(err), "x.mount") {
		t.Errorf("an empty directory passed as root file system: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*record.Record)
		damage func(dir string) error
		want   string
	}{
		"changed configuration": {
			damage: func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "config.json"), []byte(minimalConfig+" "), 0o644)
			},
			want: "not the one that was installed",
		},
		"a link as configuration": {
			damage: func(dir string) error {
				return errors.Join(os.Remove(filepath.Join(dir, "config.json")), os.Symlink("info", filepath.Join(dir, "config.json")))
			},
			want: "not a regular file",
		},
		"no configuration": {
			damage: func(dir string) error { return os.Remove(filepath.Join(dir, "config.json")) },
			want:   "no such file",
		},
		"damaged record": {
			damage: func(dir string) error { return os.WriteFile(filepath.Join(dir, "info"), []byte("{"), 0o644) },
			want:   "parse record",
		},
		"another's record": {
			change: func(r *record.Record) { r.Atomic.Name, r.Atomic.Start.Unit = "etcd", "etcd.service" },
			want:   `that of container "etcd"`,
		},
		"nothing to start": {
			change: func(r *record.Record) { r.HasContainerService = false },
			want:   "only installs files",
		},
		"link to elsewhere": {
			damage: func(dir string) error {
				link := strings.TrimSuffix(dir, ".0")
				return errors.Join(os.Remove(link), os.Symlink("/etc", link))
			},
			want: "names no generation",
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := deploy(t, minimalConfig, tt.change)
			if tt.damage != nil {
				if err := tt.damage(host.Deployment("hello", 0)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := open(host, "hello"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := open(paths.Host{Root: t.TempDir()}, "hello"); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("not installed: %v", err)
	}
	if _, err := open(paths.Host{Root: t.TempDir()}, "../x"); err == nil || errors.Is(err, ErrNotInstalled) {
		t.Errorf("bad name: %v", err)
	}
}

const fullConfig = `{"ociVersion":"1.2.0","hostname":"h",
"process":{"args":["/bin/true"],"cwd":"/","user":{"uid":7,"gid":8,"umask":63,"additionalGids":[9]},
 "selinuxLabel":"system_u:object_r:x:s0","apparmorProfile":"x","noNewPrivileges":true,
 "rlimits":[{"type":"RLIMIT_NOFILE","soft":10,"hard":20}],
 "capabilities":{"bounding":["CAP_KILL"],"permitted":["CAP_KILL"],"effective":["CAP_KILL"],"ambient":["CAP_KILL"]}},
"root":{"path":"elsewhere","readonly":true},
"mounts":[{"destination":"/run","type":"tmpfs","source":"tmpfs"}],
"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}],"cgroupsPath":"/evil",
 "resources":{"memory":{"limit":1000000},"devices":[{"allow":true,"type":"a","access":"rwm"}]},
 "devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229}],
 "seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
  "syscalls":[{"names":["keyctl"],"action":"SCMP_ACT_ERRNO"}]}}}`

func converted(t *testing.T, config string) (*configs.Config, *deployment) {
	t.Helper()
	d, err := open(deploy(t, config, nil), "hello")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := d.parseSpec()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := d.convert(spec, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return cfg, d
}

func TestConvert(t *testing.T) {
	cfg, d := converted(t, fullConfig)
	if cfg.Rootfs != d.rootfs() || !cfg.Readonlyfs {
		t.Errorf("root is %s, read-only %t", cfg.Rootfs, cfg.Readonlyfs)
	}
	if cfg.Cgroups.Path != noCgroup || cfg.Cgroups.Memory != 0 || len(cfg.Cgroups.Devices) != 0 {
		t.Errorf("cgroup is %+v", cfg.Cgroups)
	}
	if len(cfg.Seccomp.Architectures) != 0 {
		t.Errorf("seccomp for %v", cfg.Seccomp.Architectures)
	}
	if !slices.ContainsFunc(cfg.Devices, func(d *devices.Device) bool { return d.Path == "/dev/fuse" }) {
		t.Error("/dev/fuse is missing")
	}
	if cfg.RootlessEUID || cfg.RootlessCgroups || *cfg.Umask != 63 || cfg.ProcessLabel != "" {
		t.Errorf("got %+v", cfg)
	}
	all := strings.Replace(fullConfig, `"hostname"`, `"annotations":{"`+allArchitectures+`":"yes"},"hostname"`, 1)
	if cfg, _ := converted(t, all); len(cfg.Seccomp.Architectures) != 2 {
		t.Errorf("with the annotation: seccomp for %v", cfg.Seccomp.Architectures)
	}
}

func TestProcess(t *testing.T) {
	d, err := open(deploy(t, fullConfig, nil), "hello")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := d.parseSpec()
	if err != nil {
		t.Fatal(err)
	}
	p, err := process(spec.Process)
	if err != nil {
		t.Fatal(err)
	}
	if p.UID != 7 || p.GID != 8 || !slices.Equal(p.AdditionalGroups, []int{9}) || !*p.NoNewPrivileges {
		t.Errorf("got %+v", p)
	}
	if len(p.Rlimits) != 1 || p.Rlimits[0] != (configs.Rlimit{Type: unix.RLIMIT_NOFILE, Soft: 10, Hard: 20}) {
		t.Errorf("limits are %+v", p.Rlimits)
	}
	if !slices.Equal(p.Capabilities.Ambient, []string{"CAP_KILL"}) || len(p.Capabilities.Inheritable) != 0 {
		t.Errorf("capabilities are %+v", p.Capabilities)
	}
	spec.Process.Rlimits[0].Type = "RLIMIT_LUCK"
	if _, err := process(spec.Process); err == nil {
		t.Error("an unknown limit passed")
	}
}

func TestParseSpecRefuses(t *testing.T) {
	for name, config := range map[string]string{
		"not JSON":     `{`,
		"no process":   `{"linux":{}}`,
		"no command":   `{"process":{"cwd":"/"},"linux":{}}`,
		"relative cwd": `{"process":{"args":["x"],"cwd":"tmp"},"linux":{}}`,
		"not Linux":    `{"process":{"args":["x"],"cwd":"/"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			d, err := open(deploy(t, config, nil), "hello")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.parseSpec(); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestMountCredentials(t *testing.T) {
	run := runDir(t.TempDir())
	cfg, _ := converted(t, fullConfig)
	if got, err := run.bindCredentials(libcontainerConfig(cfg, nil), "/run/credentials/x", "", false); got != "/run/host/credentials" || err != nil {
		t.Errorf("over a tmpfs: %q, %v", got, err)
	}
	if got, err := run.bindCredentials(libcontainerConfig(cfg, nil), "/run/credentials/x", "/.host/notify", false); got != "/.host/credentials" || err != nil {
		t.Errorf("beside the relay: %q, %v", got, err)
	}
	if _, err := os.Stat(run.credentials()); err != nil {
		t.Error(err)
	}
	if m := cfg.Mounts[len(cfg.Mounts)-1]; m.Flags&unix.MS_RDONLY == 0 || m.Source != "/run/credentials/x" {
		t.Errorf("mount is %+v", m)
	}
	bare, _ := converted(t, minimalConfig)
	if _, err := run.bindCredentials(libcontainerConfig(bare, nil), "/run/credentials/x", "", false); !errors.Is(err, errNoMountPoint) {
		t.Errorf("without a place: %v", err)
	}
}

func TestReconcile(t *testing.T) {
	run := runDir(t.TempDir())
	dir := run.container("hello")
	state := func(text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "state.json"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"never started": "", "damaged": "{", "gone": `{"init_process_pid":4194304,"init_process_start":1}`,
		"reused PID": `{"init_process_pid":1,"init_process_start":1}`,
	} {
		state(text)
		if err := run.reconcile("hello"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s: left behind", name)
		}
	}
	if err := run.reconcile("hello"); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	p, _ := child(t)
	state(aliveState(t, p.pid))
	if err := run.reconcile("hello"); !errors.Is(err, errRunning) {
		t.Errorf("removed a running container: %v", err)
	}
}

// aliveState is the state file of a container whose init is pid.
func aliveState(t *testing.T, pid int) string {
	t.Helper()
	stat, err := system.Stat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"init_process_pid":%d,"init_process_start":%d}`, pid, stat.StartTime)
}
