// SPDX-License-Identifier: Apache-2.0

// Package sdbus connects to systemd on its own socket, which needs no bus
// daemon.
package sdbus

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Address is where systemd answers root without a bus daemon.
const Address = "unix:path=/run/systemd/private"

// Names of the manager, on a bus and here.
const (
	Destination = "org.freedesktop.systemd1"
	Path        = dbus.ObjectPath("/org/freedesktop/systemd1")
	Manager     = "org.freedesktop.systemd1.Manager"
)

// greeting is longer than all that systemd reads at a time while it
// authenticates a client (256 bytes at least, 64 KiB at most, twice what it has).
const greeting = 1 << 10

// Dial connects to systemd. The connection ends with ctx.
//
// systemd reads ahead while it authenticates: if the last line of that and the
// first message arrive together, it puts the message aside and looks at it only
// when more arrives, be it the end of the connection. Whoever waits for the
// answer first waits in vain, and files that came with the message break the
// connection. So the first message is one that is too long to be put aside as a
// whole, and is waited for.
func Dial(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dial(ctx, Address)
	if err != nil {
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return conn, nil
}

func dial(ctx context.Context, address string) (*dbus.Conn, error) {
	conn, err := dbus.Dial(address, dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil {
		err = conn.Object(Destination, Path).CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0, strings.Repeat(" ", greeting)).Err
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}
