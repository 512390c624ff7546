// SPDX-License-Identifier: Apache-2.0

package sdbus

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// A server that does as systemd does: what it reads of a message while it
// authenticates is put aside until more arrives.
func TestDialIsNotPutAside(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "private")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	served := make(chan error, 1)
	go func() { served <- serve(l) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := dial(ctx, "unix:path="+socket)
	if err != nil {
		t.Fatalf("dial: %v, server: %v", err, <-served)
	}
	_ = conn.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func serve(l net.Listener) error {
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
	reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(msg.Serial())}}
	var out bytes.Buffer
	if err := reply.EncodeTo(&out, binary.LittleEndian); err != nil {
		return err
	}
	out.Bytes()[8] = 1 // its serial number
	_, err = conn.Write(out.Bytes())
	return err
}
