// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestReadAhead(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	broken := errors.New("broken")
	tests := []struct {
		name string
		r    io.Reader
		want error
	}{
		{"whole", bytes.NewReader(content), nil},
		{"halves", iotest.HalfReader(bytes.NewReader(content)), nil},
		{"error with data", iotest.DataErrReader(bytes.NewReader(content)), nil},
		{"error", io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)), broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := readAhead(tt.r)
			defer a.stop()
			got, err := io.ReadAll(a)
			if !errors.Is(err, tt.want) || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if _, again := a.Read(make([]byte, 1)); again == nil {
				t.Error("no error after the end")
			}
		})
	}
}

// TestReadAheadStop stops in the middle of an endless stream.
func TestReadAheadStop(t *testing.T) {
	a := readAhead(endless{})
	if _, err := io.ReadFull(a, make([]byte, 3*chunk)); err != nil {
		t.Fatal(err)
	}
	a.stop()
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
