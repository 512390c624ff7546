// SPDX-License-Identifier: Apache-2.0

package health

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/install/record"
)

// TestNext follows runs of a container: "." is a check that passes, "x" one
// that fails in the start period, "X" one that fails after it.
func TestNext(t *testing.T) {
	check := &record.Health{Test: []string{"true"}, Interval: 1000, Timeout: 1000, StartPeriod: 60_000, Retries: 3}
	for _, tt := range []struct {
		answers  string
		status   Status
		failures int
	}{
		{".", Healthy, 0},
		{"x", Starting, 0},
		{"xxxxxx", Starting, 0},
		{"xxxX", Starting, 1},
		{"XXX", Unhealthy, 3},
		{"XXXX", Unhealthy, 4},
		{"XX.", Healthy, 0},
		{"XX.XX", Healthy, 2},
		{".xxx", Unhealthy, 3}, // it had come up
		{"XXX.", Healthy, 0},
		{"XXXxx", Unhealthy, 5},
	} {
		t.Run(tt.answers, func(t *testing.T) {
			var s State
			for _, c := range tt.answers {
				age := time.Second
				if c == 'X' {
					age = time.Hour
				}
				s = s.Next(check, age, time.Unix(1, 0), map[rune]string{'x': "no", 'X': "no"}[c])
			}
			if s.Status != tt.status || s.Failures != tt.failures || (s.Answer == "") != strings.HasSuffix(tt.answers, ".") {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func TestFile(t *testing.T) {
	example, err := os.ReadFile("testdata/health.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Read("testdata/health.json")
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(example), string(again)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	dir := t.TempDir()
	for name, bad := range map[string]string{
		"version": strings.Replace(string(example), `"version":1`, `"version":2`, 1),
		"status":  strings.Replace(string(example), `unhealthy`, `ill`, 1),
		"short":   string(example[:20]), "empty": "", "negative": strings.Replace(string(example), `"failures":3`, `"failures":-3`, 1),
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Read(file); err == nil || s != (State{}) {
			t.Errorf("%s: read as %+v", name, s)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "status"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(filepath.Join(dir, "link")); err == nil {
		t.Error("a symlink was followed")
	}
}
