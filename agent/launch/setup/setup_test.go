// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"os"
	"slices"
	"testing"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

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

func TestSplit(t *testing.T) {
	for data, want := range map[string][]string{
		"":                               nil,
		"mode=0755":                      {"mode=0755"},
		"mode=0755,,size=1k,nr_inodes=5": {"mode=0755", "size=1k", "nr_inodes=5"},
		"mpol=bind:0,2-3,noswap":         {"mpol=bind:0,2-3", "noswap"},
	} {
		if got := split(data); !slices.Equal(got, want) {
			t.Errorf("%q: got %q", data, got)
		}
	}
}

func TestOutside(t *testing.T) {
	ids := []plan.IDMap{{Inside: 0, Outside: 100000, Count: 10}, {Inside: 1000, Outside: 5, Count: 1}}
	for id, want := range map[uint64]int{0: 100000, 9: 100009, 10: nobody, 999: nobody, 1000: 5, 1001: nobody} {
		if got := outside(id, ids); got != want {
			t.Errorf("%d is %d, want %d", id, got, want)
		}
	}
	if got := outside(7, nil); got != 7 {
		t.Errorf("7 is %d without a user namespace", got)
	}
}
