// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/test/bed"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, verb, args string
		want             bed.Options
		wantArgs         []string
		wantErr          string
	}{
		{"default shell", "shell", "", bed.Options{Product: true, TPM: true}, nil, ""},
		{"suite", "shell", "forky", bed.Options{Suite: "forky", Product: true, TPM: true}, nil, ""},
		{
			"run", "run", "-product=false -tpm=false -bench -name x trixie -- ls -l --",
			bed.Options{Suite: "trixie", Variant: bed.Bench, Name: "x"},
			[]string{"ls", "-l", "--"},
			"",
		},
		{
			"binds", "run", "-bind /a:/b -bind /c:/d:ro -- true",
			bed.Options{Product: true, TPM: true, Binds: []bed.Bind{{Source: "/a", Target: "/b"}, {Source: "/c", Target: "/d", ReadOnly: true}}},
			[]string{"true"},
			"",
		},
		{"bad bind", "run", "-bind /a:/b:rw -- true", bed.Options{}, nil, "SOURCE:TARGET"},
		{"no command", "run", "trixie", bed.Options{}, nil, "no command"},
		{"command before dashes", "run", "trixie ls", bed.Options{}, nil, "goes after --"},
		{"shell with command", "shell", "trixie -- ls", bed.Options{}, nil, "takes no command"},
		{"unknown flag", "run", "-x trixie -- ls", bed.Options{}, nil, "not defined"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(tt.verb, strings.Fields(tt.args), io.Discard)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.bed); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.wantArgs, got.args); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"dance"}} {
		var out bytes.Buffer
		if code, _ := run(t.Context(), args, &out); code != 2 || !strings.Contains(out.String(), "usage:") {
			t.Errorf("%q: code %d, said %q", args, code, out.String())
		}
	}
}
