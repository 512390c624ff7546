// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/install/record"
)

// TestRuntimeSpec is about what another runtime must not get to see.
func TestRuntimeSpec(t *testing.T) {
	const config = `{"ociVersion":"1.3.0","process":{"args":["/x"],"cwd":"/","user":{"uid":0,"gid":0},"env":["A=b"]},
		"annotations":{"run.oci.handler":"wasm"},"root":{"path":"elsewhere","readonly":true},
		"linux":{"cgroupsPath":"/x","resources":{"memory":{"limit":1}},"namespaces":[{"type":"pid"}],
		"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"]}}}`
	host := deploy(t, config, func(r *record.Record) {
		r.Atomic.Start.Engine = "runtime"
		r.Atomic.Start.Runtime = &record.Runtime{Path: "/usr/bin/crun", Kind: record.Crun}
	})
	d, err := open(host, "hello")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("FROM_UNIT", "yes")
	spec, passed, err := Launcher{Host: host, Log: slog.New(slog.DiscardHandler)}.runtimeSpec(d)
	if err != nil || len(passed) != 0 {
		t.Fatal(passed, err)
	}
	if spec.Annotations != nil || spec.Linux.Resources != nil || spec.Linux.CgroupsPath != "" || spec.Linux.Seccomp.Architectures != nil {
		t.Errorf("too much is left: %v %+v", spec.Annotations, spec.Linux)
	}
	if diff := cmp.Diff(&specs.Root{Path: d.rootfs(), Readonly: true}, spec.Root); diff != "" {
		t.Error(diff)
	}
	if env := strings.Join(spec.Process.Env, " "); !strings.Contains(env, "A=b") || !strings.Contains(env, "FROM_UNIT=yes") {
		t.Errorf("environment %s", env)
	}
}

func TestRuntimeCredentials(t *testing.T) {
	run := runDir(t.TempDir())
	spec := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}, Mounts: []specs.Mount{{Destination: "/run/", Type: "tmpfs"}}}
	target, err := run.bindCredentials(specConfig(spec), "/run/credentials/x", "", true)
	if err != nil || target != "/run/host/credentials" {
		t.Errorf("got %q, %v", target, err)
	}
	want := specs.Mount{
		Destination: target, Type: "bind", Source: "/run/credentials/x",
		Options: []string{"bind", "ro", "nosuid", "nodev", "noexec", "idmap"},
	}
	if diff := cmp.Diff(want, spec.Mounts[1]); diff != "" {
		t.Error(diff)
	}
}

func TestPropagates(t *testing.T) {
	for name, tt := range map[string]struct {
		spec specs.Spec
		want bool
	}{
		"private":   {specs.Spec{Linux: &specs.Linux{}, Mounts: []specs.Mount{{Options: []string{"rbind", "rslave"}}}}, false},
		"a mount":   {specs.Spec{Linux: &specs.Linux{}, Mounts: []specs.Mount{{}, {Options: []string{"bind", "rshared"}}}}, true},
		"the whole": {specs.Spec{Linux: &specs.Linux{RootfsPropagation: "shared"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := propagates(&tt.spec); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestRuntimeFile(t *testing.T) {
	run := runDir(t.TempDir())
	if o, err := run.ociRuntime("x"); o != nil || err != nil {
		t.Fatalf("out of nowhere: %v, %v", o, err)
	}
	want := record.Runtime{Path: "/usr/bin/crun", Kind: record.Crun}
	if err := run.noteRuntime(want); err != nil {
		t.Fatal(err)
	}
	o, err := run.ociRuntime("x")
	if err != nil || o.Runtime != want {
		t.Fatalf("%+v, %v", o, err)
	}
	got := o.command(t.Context(), "/r", "create", "--bundle", "/b").Args
	if diff := cmp.Diff([]string{"/usr/bin/crun", "--root", "/r", "--cgroup-manager=disabled", "create", "--bundle", "/b", "x"}, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"", "{}", `{"version":2,"path":"/x","kind":"crun"}`, `{"version":1,"path":"x","kind":"crun"}`} {
		if err := replace(run.runtime(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := run.ociRuntime("x"); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
