// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
)

type fakeManager struct{ cgroups.Manager }

func (fakeManager) GetAllPids() ([]int, error) { return []int{42}, nil }

// libcontainer must ask our manager, not one of its own, after the swap.
func TestSetCgroupManager(t *testing.T) {
	c := new(libcontainer.Container)
	if err := setCgroupManager(c, fakeManager{}); err != nil {
		t.Fatal(err)
	}
	if pids, err := c.Processes(); err != nil || len(pids) != 1 || pids[0] != 42 {
		t.Fatalf("processes are %v, %v", pids, err)
	}
}

func TestUnitCgroupWritesNothing(t *testing.T) {
	dir := t.TempDir()
	m := unitCgroup{dir}
	for name, err := range map[string]error{
		"apply": m.Apply(os.Getpid()), "set": m.Set(&cgroups.Resources{Memory: 1}), "destroy": m.Destroy(),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m.Freeze(cgroups.Frozen) == nil {
		t.Error("froze a unit")
	}
	if m.AddPid("sub", 1) == nil {
		t.Error("made a sub-cgroup")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Fatalf("the cgroup was written to: %v, %v", entries, err)
	}
}

func TestUnitCgroupReads(t *testing.T) {
	dir := t.TempDir()
	m := unitCgroup{dir}
	if n, err := m.OOMKillCount(); n != 0 || err != nil {
		t.Errorf("without memory controller: %d, %v", n, err)
	}
	if s, err := m.GetFreezerState(); s != cgroups.Thawed || err != nil {
		t.Errorf("without freezer: %v, %v", s, err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n")
	write("cgroup.freeze", "1\n")
	if n, err := m.OOMKillCount(); n != 1 || err != nil {
		t.Errorf("oom kills: %d, %v", n, err)
	}
	if s, err := m.GetFreezerState(); s != cgroups.Frozen || err != nil {
		t.Errorf("frozen: %v, %v", s, err)
	}
}

func TestParseCgroup(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"unified":      {"0::/system.slice/etcd.service\n", "/sys/fs/cgroup/system.slice/etcd.service"},
		"hybrid":       {"1:name=systemd:/x\n0::/atomic.slice/a.service\n", "/sys/fs/cgroup/atomic.slice/a.service"},
		"root":         {"0::/\n", "/sys/fs/cgroup"},
		"legacy":       {"1:name=systemd:/x\n", ""},
		"empty":        {"", ""},
		"no newline":   {"0::/a", "/sys/fs/cgroup/a"},
		"odd new line": {"0::/a b\n", "/sys/fs/cgroup/a b"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseCgroup(tt.in)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestInCgroup(t *testing.T) {
	for _, tt := range []struct {
		unit, path string
		want       bool
	}{
		{"/s/a.service", "/s/a.service", true},
		{"/s/a.service", "/s/a.service/sub", true},
		{"/s/a.service", "/s/a.service2", false},
		{"/s/a.service", "/s", false},
		{"/s/a.service", "/s/b.service", false},
	} {
		if got := inCgroup(tt.unit, tt.path); got != tt.want {
			t.Errorf("inCgroup(%q, %q) = %t", tt.unit, tt.path, got)
		}
	}
}
