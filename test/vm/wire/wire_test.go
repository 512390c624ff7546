// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	frames := []Frame{
		{Type: Hello, Data: []byte(`{"bootId":"x"}`)},
		{Type: Stdin, ID: 7, Data: []byte{}},
		{Type: Stdout, ID: 1 << 31, Data: bytes.Repeat([]byte{0xff}, MaxData)},
	}
	var buf bytes.Buffer
	w := NewWriter(&buf)
	for _, f := range frames {
		if err := w.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range frames {
		got, err := Read(&buf)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("frame differs (-want +got):\n%s", diff)
		}
	}
	if _, err := Read(&buf); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestStreamSplits(t *testing.T) {
	var buf bytes.Buffer
	want := bytes.Repeat([]byte("0123456789abcdef"), MaxData/8)
	if n, err := NewWriter(&buf).Stream(Stdout, 3).Write(want); n != len(want) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(want), err)
	}
	var got []byte
	for {
		f, err := Read(&buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Data...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the frames do not add up to what was written")
	}
}

func TestReadRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"torn header": "s\x00\x00",
		"torn data":   "s\x00\x00\x00\x01\x00\x00\x00\x05ab",
		"no data":     "s\x00\x00\x00\x01\x00\x00\x00\x05",
	} {
		if _, err := Read(bytes.NewBufferString(in)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v, want unexpected EOF", name, err)
		}
	}
	if _, err := Read(bytes.NewBufferString("s\x00\x00\x00\x01\xff\xff\xff\xff")); err == nil {
		t.Error("a frame of 4 GiB was accepted")
	}
}
