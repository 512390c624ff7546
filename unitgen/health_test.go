// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/unitgen"
)

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
