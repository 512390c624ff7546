// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/unitgen"
)

const watchedTimer = `# Written by atomic for the container hello. Changes are lost at its next update;
# systemctl edit atomic-health@hello.timer makes a drop-in that is not.
[Unit]
Description=Health checks of container hello
Documentation=man:atomic-containers(1)
DefaultDependencies=no
StopWhenUnneeded=yes
StartLimitIntervalSec=0
After=hello.service

[Timer]
OnActiveSec=90s
OnUnitInactiveSec=90s
AccuracySec=1s
`

func TestHealthTimer(t *testing.T) {
	_, in := loadCase(t, "testdata/render/hello.txtar")
	in.Options.HealthOnFailure = "restart"
	out, err := unitgen.Render(in)
	if err != nil || out.HealthTimer != nil || !slices.ContainsFunc(out.Warnings, func(w string) bool { return strings.Contains(w, "has no health check") }) {
		t.Errorf("without a check: %v, %q, %s", err, out.Warnings, out.HealthTimer)
	}
	in.Healthcheck = &unitgen.Healthcheck{Test: []string{"CMD", "/c"}, Interval: 90 * time.Second}
	if out, err = unitgen.Render(in); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(watchedTimer, string(out.HealthTimer)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(string(out.DropIn), "\nWants=atomic-health@hello.timer\n") {
		t.Errorf("drop-in: %s", out.DropIn)
	}
	in.Healthcheck.Interval = 1
	if out, err = unitgen.Render(in); err != nil || !strings.Contains(string(out.HealthTimer), "OnUnitInactiveSec=1s\n") {
		t.Errorf("too often: %v\n%s", err, out.HealthTimer)
	}
	in.Options.HealthOnFailure = "stop"
	if _, err = unitgen.Render(in); err == nil || !strings.Contains(err.Error(), "neither none nor restart") {
		t.Errorf("an unknown reaction: %v", err)
	}
}

func TestHealth(t *testing.T) {
	defaults := func(command ...string) *unitgen.Health {
		return &unitgen.Health{Command: command, Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3}
	}
	tests := []struct {
		name  string
		check *unitgen.Healthcheck
		want  *unitgen.Health
		warns bool
	}{
		{"none", nil, nil, false},
		{"empty", &unitgen.Healthcheck{}, nil, false},
		{"turned off", &unitgen.Healthcheck{Test: []string{"NONE"}}, nil, false},
		{"command", &unitgen.Healthcheck{Test: []string{"CMD", "/check", "a b"}}, defaults("/check", "a b"), false},
		{"shell", &unitgen.Healthcheck{Test: []string{"CMD-SHELL", "exit 0"}}, defaults("/bin/sh", "-c", "exit 0"), false},
		{
			"times", &unitgen.Healthcheck{Test: []string{"CMD", "/c"}, Interval: time.Second, Timeout: time.Minute, StartPeriod: 5 * time.Second, Retries: 7},
			&unitgen.Health{Command: []string{"/c"}, Interval: time.Second, Timeout: time.Minute, StartPeriod: 5 * time.Second, Retries: 7}, false,
		},
		{
			"times that nobody waits for", &unitgen.Healthcheck{Test: []string{"CMD", "/c"}, Interval: 1, Timeout: 1e18, StartPeriod: -1, Retries: 1e9},
			&unitgen.Health{Command: []string{"/c"}, Interval: time.Millisecond, Timeout: time.Hour, Retries: 100}, false,
		},
		{"no command", &unitgen.Healthcheck{Test: []string{"CMD"}}, nil, true},
		{"unknown", &unitgen.Healthcheck{Test: []string{"/check"}}, nil, true},
		{"NUL", &unitgen.Healthcheck{Test: []string{"CMD", "/c", "a\x00b"}}, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, in := loadCase(t, "testdata/render/hello.txtar")
			quiet, err := unitgen.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			in.Healthcheck = tt.check
			out, err := unitgen.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, out.Health); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if warns := len(out.Warnings) > len(quiet.Warnings); warns != tt.warns {
				t.Errorf("warnings %q", out.Warnings)
			}
		})
	}
}
