// SPDX-License-Identifier: Apache-2.0

package system

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/test/bed"
)

func TestParseHeader(t *testing.T) {
	def := header{suites: []string{"trixie"}, timeout: 4 * time.Minute}
	with := func(change func(*header)) header {
		h := def
		change(&h)
		return h
	}
	tests := []struct {
		name, text string
		want       header
		wantErr    bool
	}{
		{name: "nothing", text: "host true\n", want: def},
		{name: "prose", text: "# Note: suites are good\n# see above\n\n# suites: all\n", want: def},
		{name: "all", text: "# suites: all\n", want: with(func(h *header) { h.suites = bed.Suites })},
		{name: "two", text: "# Title\n# suites: forky bookworm\nhost true\n", want: with(func(h *header) { h.suites = []string{"forky", "bookworm"} })},
		{name: "plain", text: "# bed: plain\n# timeout: 90s\n", want: with(func(h *header) { h.plain, h.timeout = true, 90*time.Second })},
		{name: "bench", text: "# bed: bench\n", want: with(func(h *header) { h.bench = true })},
		{name: "engines", text: "# engines: oci\n", want: with(func(h *header) { h.engines = []string{"oci"} })},
		{name: "unknown suite", text: "# suites: woody\n", wantErr: true},
		{name: "no suite", text: "# suites:\n", wantErr: true},
		{name: "bad timeout", text: "# timeout: soon\n", wantErr: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseHeader(tt.text)
			if (err != nil) != tt.wantErr {
				t.Fatalf("error %v, want one: %v", err, tt.wantErr)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(header{})); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
}
