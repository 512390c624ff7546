// SPDX-License-Identifier: Apache-2.0

package hint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/internal/hint"
)

func TestHint(t *testing.T) {
	inner := hint.New(fs.ErrNotExist, "create it")
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"nil", nil, ""},
		{"none", fs.ErrNotExist, ""},
		{"direct", inner, "create it"},
		{"wrapped", fmt.Errorf("open: %w", inner), "create it"},
		{"joined", errors.Join(fs.ErrClosed, inner), "create it"},
		{"outermost wins", hint.New(fmt.Errorf("open: %w", inner), "look there"), "look there"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := hint.Of(tt.err); got != tt.want {
				t.Errorf("Of = %q, want %q", got, tt.want)
			}
		})
	}
	if hint.New(nil, "x") != nil {
		t.Error("New(nil) is not nil")
	}
	if inner.Error() != fs.ErrNotExist.Error() || !errors.Is(inner, fs.ErrNotExist) {
		t.Error("a hint changes the error")
	}
}

func TestRoot(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrPermission}
	if got := hint.Root(denied); hint.Of(got) != "run this as root" || !errors.Is(got, denied) {
		t.Errorf("got %v (hint: %s)", got, hint.Of(got))
	}
	if got := hint.Root(fs.ErrNotExist); hint.Of(got) != "" {
		t.Errorf("hint %q for another error", hint.Of(got))
	}
	if hint.Root(nil) != nil {
		t.Error("Root(nil) is not nil")
	}
}

func TestPrint(t *testing.T) {
	for want, err := range map[string]error{
		"atomic: error: file does not exist\n":                          fs.ErrNotExist,
		"atomic: error: file does not exist\natomic: hint: create it\n": hint.New(fs.ErrNotExist, "create it"),
	} {
		var out strings.Builder
		hint.Print(&out, err)
		if out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}
