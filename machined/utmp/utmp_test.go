// SPDX-License-Identifier: Apache-2.0

package utmp

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func open(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "utmp")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func content(t *testing.T, f *os.File) []byte {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// records decodes a file, with times that can be compared.
func records(t *testing.T, data []byte) []Record {
	t.Helper()
	var list []Record
	for ; len(data) >= native.size(); data = data[native.size():] {
		r := native.decode(data)
		r.Time = r.Time.UTC()
		list = append(list, r)
	}
	if len(data) > 0 {
		t.Fatalf("%d bytes are left", len(data))
	}
	return list
}

// What real agetty and login of Debian 13 on amd64 have written; testdata/README
// tells how.
func TestReal(t *testing.T) {
	data, err := os.ReadFile("testdata/login.utmp")
	if err != nil {
		t.Fatal(err)
	}
	l := layout{}
	if len(data)%l.size() != 0 {
		t.Fatalf("%d bytes", len(data))
	}
	want := []Record{
		{Type: Login, PID: 23577, Line: "pts/2", User: "LOGIN", Session: 23577, Time: time.Date(2026, 11, 21, 17, 48, 19, 0, time.UTC)},
		{Type: User, PID: 23342, Line: "pts/2", User: "root", Session: 23337, Time: time.Date(2026, 11, 21, 17, 48, 0, 531551000, time.UTC)},
	}
	for i := 0; i < len(data); i += l.size() {
		r := l.decode(data[i:])
		r.Time = r.Time.UTC()
		if diff := cmp.Diff(want[i/l.size()], r); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(string(data[i:i+l.size()]), string(l.encode(r))); diff != "" {
			t.Errorf("%+v (-theirs +ours):\n%s", r, diff)
		}
	}
}

func TestLayouts(t *testing.T) {
	want := Record{
		Type: User, PID: 4711, Line: "pts/12", User: "hello", Host: "example", Session: 4711,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
	for _, l := range []layout{{wide: false}, {wide: true}} {
		b := l.encode(want)
		if len(b) != l.size() || string(b[idAt:userAt]) != "s/12" {
			t.Errorf("wide %v: %d bytes, id %q", l.wide, len(b), b[idAt:userAt])
		}
		got := l.decode(b)
		got.Time = got.Time.UTC()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("wide %v (-want +got):\n%s", l.wide, diff)
		}
	}
}

func TestWriteAndEnd(t *testing.T) {
	at := time.Unix(1_800_000_000, 0).UTC()
	f := open(t, nil)
	write := func(r Record) {
		t.Helper()
		r.Time = at
		if err := Write(f, r); err != nil {
			t.Fatal(err)
		}
	}
	write(Record{Type: Login, PID: 7, Line: "pts/0", User: "LOGIN"})
	write(Record{Type: User, PID: 8, Line: "pts/1", User: "hello"})
	write(Record{Type: User, PID: 9, Line: "pts/0", User: "root"}) // takes the first one's place
	if err := End(f, "pts/1", 5, at); err != nil {                 // somebody else's by now
		t.Fatal(err)
	}
	want := []Record{
		{Type: User, PID: 9, Line: "pts/0", User: "root", Time: at},
		{Type: User, PID: 8, Line: "pts/1", User: "hello", Time: at},
	}
	if diff := cmp.Diff(want, records(t, content(t, f))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for line, pid := range map[string]int{"pts/0": 0, "pts/1": 8, "pts/2": 0} {
		if err := End(f, line, pid, at.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range records(t, content(t, f)) {
		if r.Type != Dead || r.User != "" || !r.Time.Equal(at.Add(time.Second)) {
			t.Errorf("%+v is not at its end", r)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, data := range map[string][]byte{
		"another file":   []byte("root:x:0:0:root:/root:/bin/sh\n"),
		"a large file":   make([]byte, maxFile+native.size()),
		"a full file":    full(),
		"half a record":  make([]byte, native.size()/2),
		"one and a half": make([]byte, native.size()*3/2),
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, data)
			if err := Write(f, Record{Type: User, Line: "pts/0", User: "root"}); err == nil {
				t.Error("it was written")
			}
			if string(content(t, f)) != string(data) {
				t.Error("it has changed")
			}
		})
	}
}

// full is a file that cannot grow any more and has no free place.
func full() []byte {
	var data []byte
	for len(data)+native.size() <= maxFile {
		data = append(data, native.encode(Record{Type: User, Line: "tty1"})...)
	}
	return data
}

func TestLocked(t *testing.T) {
	f := open(t, nil)
	other, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := unix.FcntlFlock(other.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if err := Write(f, Record{Type: User, Line: "pts/0"}); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(native.encode(Record{Type: User, PID: 1, Line: "pts/0", User: "root", Time: time.Unix(1, 0)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := open(t, data)
		if err := Write(file, Record{Type: User, PID: 3, Line: "pts/3", User: "x"}); err != nil {
			return
		}
		if err := End(file, "pts/3", 3, time.Unix(2, 0)); err != nil {
			t.Error(err)
		}
		after := content(t, file)
		if len(after) > len(data)+native.size() || len(after) > maxFile {
			t.Errorf("%d bytes have become %d", len(data), len(after))
		}
	})
}
