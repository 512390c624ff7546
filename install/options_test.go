// SPDX-License-Identifier: Apache-2.0

package install

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/unitgen"
)

func TestAddOptions(t *testing.T) {
	tests := []struct {
		name           string
		old, add, want unitgen.Options
	}{
		{"nothing", unitgen.Options{}, unitgen.Options{}, unitgen.Options{}},
		{"kept", unitgen.Options{Env: []string{"A=1"}, Publish: []string{"80"}}, unitgen.Options{}, unitgen.Options{Env: []string{"A=1"}, Publish: []string{"80"}}},
		{"variable", unitgen.Options{Env: []string{"A=1", "B=2"}}, unitgen.Options{Env: []string{"A=3", "A=4"}}, unitgen.Options{Env: []string{"B=2", "A=4"}}},
		{"destination", unitgen.Options{Volumes: []string{"a:/x", "b:/y"}}, unitgen.Options{Volumes: []string{"c:/x/:ro"}}, unitgen.Options{Volumes: []string{"b:/y", "c:/x/:ro"}}},
		{"port", unitgen.Options{Publish: []string{"80"}}, unitgen.Options{Publish: []string{"80", "443"}}, unitgen.Options{Publish: []string{"80", "443"}}},
		{
			"property",
			unitgen.Options{Properties: []string{"After=a.service", "After=b.service", "MemoryMax=1G"}},
			unitgen.Options{Properties: []string{"After=c.service", "After=d.service"}},
			unitgen.Options{Properties: []string{"MemoryMax=1G", "After=c.service", "After=d.service"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, addOptions(tt.old, tt.add)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
