// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/agent/launch"
	"github.com/atomic-agent/atomic/install/store/mount"
)

func TestParseMount(t *testing.T) {
	image := strings.Repeat("a", 64)
	want := mount.Options{Image: image, Target: "/mnt", Verity: "try"}
	for name, tt := range map[string]struct {
		args string
		want mount.Options
	}{
		"as mount(8) calls": {"etcd.0 /mnt -o ro,image=" + image + ",verity=try", want},
		"flags":             {"etcd.0 /mnt -s -n -o ro,nodev,nosuid,x-systemd.requires=x,image=" + image + ",verity=try", want},
		"options first":     {"-o image=" + image + " -overity=try etcd.0 /mnt", want},
		"type":              {"-t atomic etcd.0 /mnt -o image=" + image + ",verity=try", want},
		"no policy":         {"etcd.0 /mnt -o image=" + image, mount.Options{Image: image, Target: "/mnt"}},
		"no image":          {"etcd.0 /mnt -o ro", mount.Options{}},
		"no target":         {"etcd.0 -o image=" + image, mount.Options{}},
		"writable":          {"etcd.0 /mnt -o rw,image=" + image, mount.Options{}},
		"remount":           {"etcd.0 /mnt -o remount,image=" + image, mount.Options{}},
		"unknown":           {"etcd.0 /mnt -o lowerdir=/,image=" + image, mount.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseMount(strings.Fields(tt.args))
			if refused := tt.want == (mount.Options{}); (err != nil) != refused || !refused && got != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"start"}, {"start", "a", "b"}, {"stop", "a"}, {"register"}, {"cleanup"}, {"mount"}, {"--help"}} {
		if err := run(context.Background(), args); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestExit(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want int
	}{
		"success":       {nil, 0},
		"failure":       {errors.New("x"), 1},
		"usage":         {errUsage, 2},
		"not installed": {fmt.Errorf("x: %w", launch.ErrNotInstalled), 3},
		"the creator's": {fmt.Errorf("x: %w", &launch.ExitError{Code: 9}), 9},
	} {
		if got := exit(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
