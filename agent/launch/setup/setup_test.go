// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

func TestOrder(t *testing.T) {
	o := Order{Name: "etcd", Passed: 2}
	got, err := ParseOrder(o.Args())
	if err != nil || got != o {
		t.Errorf("got %+v, %v", got, err)
	}
	if p := o.Program(); p != "/proc/self/fd/6" {
		t.Errorf("program is %s", p)
	}
	for _, args := range [][]string{nil, {"start", "etcd"}, {"init"}, {"init", "x"}, {"init", "x", "-1"}, {"init", "x", "y"}, {"init", "x", "1", "2"}} {
		if _, err := ParseOrder(args); err == nil {
			t.Errorf("%q is an order", args)
		}
	}
}

func TestJob(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(pair[0]) }()
	want := &plan.Plan{Config: "c", Namespaces: unix.CLONE_NEWNS, Args: []string{"/x"}, Cwd: "/"}
	if _, err := unix.Write(pair[1], Job("/srv/root", "/sys/fs/cgroup/x", want)); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(pair[1])
	root, cgroup, got, err := socket(pair[0]).job()
	if err != nil || root != "/srv/root" || cgroup != "/sys/fs/cgroup/x" {
		t.Fatalf("got %q, %q, %v", root, cgroup, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if _, _, _, err := socket(pair[0]).job(); err == nil {
		t.Error("a launcher that is gone gave another job")
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH"))
	home := homeOf(0)
	for name, tt := range map[string]struct {
		env, want []string // nil is an error
	}{
		"as it is":            {[]string{"A=1", "HOME=/h"}, []string{"A=1", "HOME=/h"}},
		"the last one counts": {[]string{"A=1", "B=2", "A=3", "HOME=/h"}, []string{"B=2", "A=3", "HOME=/h"}},
		"home of the user":    {[]string{"A=1"}, []string{"A=1", "HOME=" + home}},
		"empty home":          {[]string{"HOME=", "A="}, []string{"A=", "HOME=" + home}},
		"no value":            {[]string{"A"}, nil},
		"no name":             {[]string{"=A"}, nil},
	} {
		got, err := environment(tt.env, 0)
		if (err != nil) != (tt.want == nil) || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	if got := homeOf(4294967294); got != "/" {
		t.Errorf("an unknown user lives in %s", got)
	}
}

func TestReadFile(t *testing.T) {
	name := t.TempDir() + "/x"
	if err := os.WriteFile(name, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]string{20: "0123456789", 4: "0123"} {
		if got, err := readFile(name, limit); err != nil || string(got) != want {
			t.Errorf("limit %d: %q, %v", limit, got, err)
		}
	}
	if _, err := readFile(name+"x", 1); err == nil {
		t.Error("read what is not there")
	}
}
