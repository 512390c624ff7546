// SPDX-License-Identifier: Apache-2.0

package sdbus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// listen runs a server that does as systemd does, for one connection. It answers
// the greeting, then a call, unless answer returns nil, and wants to be hung up on.
func listen(t *testing.T, answer func(call *dbus.Message) *dbus.Message) (at string, served <-chan error) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "private")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	done := make(chan error, 1)
	go func() { done <- serve(l, answer) }()
	return "unix:path=" + socket, done
}

func TestDialIsNotPutAside(t *testing.T) {
	at, served := listen(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := dial(ctx, at)
	if err != nil {
		t.Fatalf("dial: %v, server: %v", err, <-served)
	}
	_ = conn.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestCall has calls answered, refused and not answered; the server sees that
// none of them leaves its connection behind.
func TestCall(t *testing.T) {
	const refusal = "org.freedesktop.systemd1.NoSuchUnit"
	for _, tt := range []struct {
		name    string
		answer  *dbus.Message
		ok      bool
		refusal string
	}{
		{"answered", &dbus.Message{Type: dbus.TypeMethodReply}, true, ""},
		{"refused", &dbus.Message{Type: dbus.TypeError, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldErrorName: dbus.MakeVariant(refusal)}}, false, refusal},
		{"not answered", nil, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			at, served := listen(t, func(call *dbus.Message) *dbus.Message {
				want := map[dbus.HeaderField]any{
					dbus.FieldDestination: "org.freedesktop.systemd1", dbus.FieldPath: dbus.ObjectPath("/org/freedesktop/systemd1"),
					dbus.FieldInterface: "org.freedesktop.systemd1.Manager", dbus.FieldMember: "StopUnit",
				}
				for field, value := range want {
					if got := call.Headers[field].Value(); got != value {
						t.Errorf("header %d is %v, want %v", field, got, value)
					}
				}
				if diff := cmp.Diff([]any{"a.service", "replace"}, call.Body); diff != "" {
					t.Errorf("arguments (-want +got):\n%s", diff)
				}
				if tt.answer == nil {
					cancel() // as if the time were over
				}
				return tt.answer
			})
			err := call(ctx, at, "StopUnit", "a.service", "replace")
			var refused dbus.Error
			if errors.As(err, &refused); (err == nil) != tt.ok || refused.Name != tt.refusal {
				t.Errorf("got %v", err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// serve does as systemd does: what it reads of a message while it authenticates
// is put aside until more arrives.
func serve(l net.Listener, answer func(*dbus.Message) *dbus.Message) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	var got []byte
	for _, step := range []struct{ until, answer string }{
		{"AUTH\r\n", "REJECTED EXTERNAL\r\n"}, {"AUTH EXTERNAL", "OK 00112233445566778899aabbccddeeff\r\n"}, {"NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD\r\n"}, {"BEGIN\r\n", ""},
	} {
		for !bytes.Contains(got, []byte(step.until)) {
			buf := make([]byte, 256)
			n, err := conn.Read(buf)
			if err != nil {
				return err
			}
			got = append(got, buf[:n]...)
		}
		if _, err := conn.Write([]byte(step.answer)); err != nil {
			return err
		}
	}
	// The first message was sent at once, so that systemd may have had this much
	// of it. Only what comes after wakes it up.
	_, after, _ := bytes.Cut(got, []byte("BEGIN\r\n"))
	aside := make([]byte, 256)
	copied := copy(aside, after)
	if copied < len(aside) {
		n, err := conn.Read(aside[copied:])
		if err != nil {
			return err
		}
		copied += n
	}
	rest := make([]byte, 64<<10)
	n, err := conn.Read(rest)
	if err != nil {
		return err
	}
	msg, err := dbus.DecodeMessage(bytes.NewReader(append(aside[:copied:copied], rest[:n]...)))
	if err != nil {
		return err
	}
	if err := reply(conn, msg, &dbus.Message{Type: dbus.TypeMethodReply}); err != nil {
		return err
	}
	for {
		msg, err := dbus.DecodeMessage(conn)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m := answer(msg); m != nil {
			if err := reply(conn, msg, m); err != nil {
				return err
			}
		}
	}
}

func reply(w io.Writer, to, m *dbus.Message) error {
	headers := map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(to.Serial())}
	maps.Copy(headers, m.Headers)
	var out bytes.Buffer
	if err := (&dbus.Message{Type: m.Type, Headers: headers}).EncodeTo(&out, binary.LittleEndian); err != nil {
		return err
	}
	out.Bytes()[8] = 1 // its serial number
	_, err := w.Write(out.Bytes())
	return err
}
