// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel prints is what it says when it is asked.
func TestParseLimits(t *testing.T) {
	table, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	list, err := parseLimits(string(table))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(rlimits) {
		t.Errorf("%d limits, want %d", len(list), len(rlimits))
	}
	for _, got := range list {
		var want unix.Rlimit
		if err := unix.Prlimit(0, got.Type, nil, &want); err != nil {
			t.Fatal(err)
		}
		if got.Soft != want.Cur || got.Hard != want.Max {
			t.Errorf("limit %d: %d and %d, want %d and %d", got.Type, got.Soft, got.Hard, want.Cur, want.Max)
		}
	}
}

func TestParseLimitsRefuses(t *testing.T) {
	for _, table := range []string{
		"Max open files\n",
		"Max open files            1024\n",
		"Max open files            many                 1024                 files\n",
		"Max open files            1024                 -1                   files\n",
	} {
		if list, err := parseLimits(table); err == nil {
			t.Errorf("%q: %v", table, list)
		}
	}
}
