// SPDX-License-Identifier: Apache-2.0

// Package sdbus calls systemd on its own socket, which needs no bus daemon.
package sdbus

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// address is where systemd answers root without a bus daemon.
const address = "unix:path=/run/systemd/private"

// Names of the manager, on a bus and here.
const (
	destination = "org.freedesktop.systemd1"
	path        = dbus.ObjectPath("/org/freedesktop/systemd1")
	manager     = destination + ".Manager"
)

// greeting is longer than all that systemd reads at a time while it
// authenticates a client (256 bytes at least, 64 KiB at most, twice what it has).
const greeting = 1 << 10

// Call has the manager do something, and waits until it says that it does or
// until ctx is done. What the manager returns, as a job, is of no interest to
// those who make no more than one call.
func Call(ctx context.Context, method string, args ...any) error {
	return call(ctx, address, method, args...)
}

func call(ctx context.Context, at, method string, args ...any) error {
	conn, err := dial(ctx, at)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return conn.Object(destination, path).CallWithContext(ctx, manager+"."+method, 0, args...).Err
}

// Dial connects to systemd. The connection ends with ctx.
//
// systemd reads ahead while it authenticates: if the last line of that and the
// first message arrive together, it puts the message aside and looks at it only
// when more arrives, be it the end of the connection. Whoever waits for the
// answer first waits in vain, and files that came with the message break the
// connection. So the first message is one that is too long to be put aside as a
// whole, and is waited for.
func Dial(ctx context.Context) (*dbus.Conn, error) {
	return dial(ctx, address)
}

func dial(ctx context.Context, at string) (*dbus.Conn, error) {
	conn, err := dbus.Dial(at, dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil {
		err = conn.Object(destination, path).CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0, strings.Repeat(" ", greeting)).Err
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return conn, nil
}
