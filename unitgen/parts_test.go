// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/unitgen"
)

func TestMountUnit(t *testing.T) {
	name, content := unitgen.MountUnit("etcd-3.5", 2, unitgen.RootfsMount{
		Where: "/var/lib/containers/atomic/etcd-3.5.2/rootfs", Image: strings.Repeat("a0", 32), Verity: "require",
		Verify: "start", IDs: &unitgen.IDRange{First: 524288, Count: 65536},
	})
	if want := `var-lib-containers-atomic-etcd\x2d3.5.2-rootfs.mount`; name != want {
		t.Errorf("name %q, want %q", name, want)
	}
	want := `# Written by atomic for the container etcd-3.5. Changes are lost at its next update.
[Unit]
Description=Root file system of container etcd-3.5
Documentation=man:atomic(1)
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target

[Mount]
What=etcd-3.5.2
Where=/var/lib/containers/atomic/etcd-3.5.2/rootfs
Type=atomic
Options=ro,image=` + strings.Repeat("a0", 32) + `,verity=require,verify=start,idmap=524288:65536
`
	if d := cmp.Diff(want, string(content)); d != "" {
		t.Errorf("mount unit (-want +got):\n%s", d)
	}
}

// fromImage renders an image without templates.
func fromImage(t *testing.T, config ispec.ImageConfig, files map[string]string) (*unitgen.Output, rspec.Spec, error) {
	t.Helper()
	out, err := unitgen.Render(unitgen.Input{
		Name: "x", DestDir: "/d", ImageName: "x:1", ImageConfig: ispec.Image{Config: config},
		Exports: unitgen.Exports{ReadFile: func(p string) ([]byte, error) {
			if s, ok := files[p]; ok {
				return []byte(s), nil
			}
			return nil, fs.ErrNotExist
		}},
		Host: unitgen.HostFacts{Launcher: "/launch"},
	})
	var spec rspec.Spec
	if err == nil {
		err = json.Unmarshal(out.Config, &spec)
	}
	return out, spec, err
}

func TestImageUser(t *testing.T) {
	files := map[string]string{
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nbroken\napp:x:10:20::/home/app:\nnogid:x:11:x:::\n",
		"/etc/group":  "wheel:x:5:root,app\napp:x:20:app\nother:x:30:app\n",
	}
	tests := []struct {
		user, home, err string
		want            rspec.User
	}{
		{user: "", want: rspec.User{AdditionalGids: []uint32{5}}, home: "/root"},
		{user: "app", want: rspec.User{UID: 10, GID: 20, AdditionalGids: []uint32{5, 30}}, home: "/home/app"},
		{user: "10", want: rspec.User{UID: 10, GID: 20, AdditionalGids: []uint32{5, 30}}, home: "/home/app"},
		{user: "10:30", want: rspec.User{UID: 10, GID: 30}, home: "/home/app"},
		{user: "app:wheel", want: rspec.User{UID: 10, GID: 5}, home: "/home/app"},
		{user: "99", want: rspec.User{UID: 99}},
		{user: "99:98", want: rspec.User{UID: 99, GID: 98}},
		{user: "nosuch", err: "has no such user"},
		{user: "app:nosuch", err: "has no such group"},
		{user: "-1", err: "has no such user"},
		{user: "4294967295", err: "has no such user"},
	}
	for _, tt := range tests {
		t.Run(tt.user, func(t *testing.T) {
			_, spec, err := fromImage(t, ispec.ImageConfig{Cmd: []string{"x"}, User: tt.user}, files)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, spec.Process.User); d != "" {
				t.Errorf("user (-want +got):\n%s", d)
			}
			home := ""
			for _, e := range spec.Process.Env {
				home += strings.TrimPrefix(e, "HOME=")
				if !strings.HasPrefix(e, "HOME=") {
					home = strings.TrimSuffix(home, e)
				}
			}
			if home != tt.home {
				t.Errorf("HOME=%q, want %q", home, tt.home)
			}
		})
	}
}

func TestStopSignal(t *testing.T) {
	tests := map[string]string{
		"": "SIGTERM", "SIGQUIT": "SIGQUIT", "quit": "SIGQUIT", "3": "SIGQUIT", "37": "SIGRTMIN+3", "SIGRTMIN+3": "SIGRTMIN+3",
		"RTMIN+3": "SIGRTMIN+3", "SIGRTMIN": "SIGRTMIN+0", "0": "SIGTERM", "99": "SIGTERM", "SIGNOSUCH": "SIGTERM",
		"SIGRTMIN+99": "SIGTERM", "SIGRTMIN-1": "SIGTERM", "32": "SIGTERM", "TERM\nExecStart=/x": "SIGTERM",
	}
	for in, want := range tests {
		out, _, err := fromImage(t, ispec.ImageConfig{Cmd: []string{"x"}, StopSignal: in}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if out.StopSignal != want {
			t.Errorf("StopSignal %q is %q, want %q", in, out.StopSignal, want)
		}
		if unknown := want == "SIGTERM" && in != ""; unknown != (len(out.Warnings) == 1) {
			t.Errorf("StopSignal %q: warnings %q", in, out.Warnings)
		}
	}
}

// TestOwnNames checks which paths of the host a container of each name may
// mount without a grant.
func TestOwnNames(t *testing.T) {
	tests := []struct {
		name, image, path string
		own               bool
	}{
		{"etcd", "r/etcd:3", "/var/lib/etcd", true},
		{"etcd", "r/etcd:3", "/var/lib/etcd/etcd.etcd", true},
		{"node1", "r/etcd@sha256:00", "/var/lib/etcd/node1.etcd", true},
		{"etcd", "r/etcd", "/etc/etcd.conf", true},
		{"etcd", "r/etcd", "/etc/sysconfig/etcd", true},
		{"etcd", "r/etcd", "/var/log/etcd", true},
		{"flannel", "r/x", "/run/flanneld", true},
		{"etcd", "r/etcd", "/var/run/etcd", true},
		{"etcd", "r/etcd", "/var/lib/etcdx", false},
		{"etcd", "r/etcd", "/var/lib", false},
		{"etcd", "r/etcd", "/srv/etcd", false},
		{"etcd", "r/etcd", "/var/lib/other/etcd", false},
		{"etcd", "r/etcd", "/var/lib/etcd/../containers", false},
		{"s", "r/s", "/etc/shadow", false},
		{"shadow", "r/shadow", "/etc/shadow", false},
		{"ld", "r/ld", "/etc/ld.so.preload", false},
		{"cron", "r/cron", "/etc/cron.d", false},
		{"auth", "r/auth", "/var/log/auth.log", false},
		{"docker", "r/docker", "/run/docker.sock", false},
		{"containerd", "r/containerd", "/run/containerd", false},
		{"x", "r/ssh", "/etc/ssh", false},
		{"systemd", "r/x", "/run/systemd", false},
		{"atomic", "r/atomic", "/run/atomic", false},
		{"containers", "r/containers", "/var/lib/containers/atomic", false},
	}
	for _, tt := range tests {
		config, err := json.Marshal(rspec.Spec{
			Root:    &rspec.Root{Path: "rootfs", Readonly: true},
			Process: &rspec.Process{Args: []string{"x"}},
			Mounts:  []rspec.Mount{{Destination: "/x", Type: "bind", Source: tt.path, Options: []string{"rbind"}}},
			Linux:   &rspec.Linux{Namespaces: []rspec.LinuxNamespace{{Type: "pid"}, {Type: "ipc"}, {Type: "mount"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := unitgen.Render(unitgen.Input{
			Name: tt.name, DestDir: "/var/lib/containers/atomic/" + tt.name + ".0", ImageName: tt.image,
			Exports: unitgen.Exports{ConfigJSON: config}, Host: unitgen.HostFacts{Launcher: "/launch"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(out.Missing) == 0; got != tt.own {
			t.Errorf("container %s of %s owns %s: %t, want %t", tt.name, tt.image, tt.path, got, tt.own)
		}
	}
}

// TestTPMDevice: the launcher must reach the TPM from inside the unit.
func TestTPMDevice(t *testing.T) {
	for device, want := range map[string]string{
		"":             "",
		"/dev/tpmrm0":  "DeviceAllow=char-tpm rw\n",
		"/dev/tpm-own": "DeviceAllow=/dev/tpm-own rw\n",
	} {
		out, err := unitgen.Render(unitgen.Input{
			Name: "x", DestDir: "/d", ImageName: "x:1",
			ImageConfig: ispec.Image{Config: ispec.ImageConfig{Entrypoint: []string{"/run"}}},
			Host:        unitgen.HostFacts{Launcher: "/launch", TPMDevice: device},
		})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out.DropIn), want) || want == "" && strings.Contains(string(out.DropIn), "tpm") {
			t.Errorf("device %q: want %q in\n%s", device, want, out.DropIn)
		}
	}
}
