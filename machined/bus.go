// SPDX-License-Identifier: Apache-2.0

package machined

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/godbus/dbus/v5"
)

const (
	busName      = "org.freedesktop.machine1"
	busPath      = "/org/freedesktop/machine1"
	busManager   = busName + ".Manager"
	busMachine   = busName + ".Machine"
	busErrExists = busName + ".MachineExists"
	busErrNone   = busName + ".NoSuchMachine"
)

// bus speaks to machined over the system bus, which starts it if need be.
type bus struct{ conn *dbus.Conn }

func dialBus(ctx context.Context, socket string) (transport, error) {
	raw, err := dialUnix(ctx, socket)
	if err != nil {
		return nil, fmt.Errorf("connect to D-Bus: %w", err)
	}
	conn, err := dbus.NewConn(raw, dbus.WithContext(ctx))
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("connect to D-Bus: %w", err)
	}
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect to D-Bus: %w", err)
	}
	return bus{conn}, nil
}

// dialUnix connects to a socket; every later operation on it ends with ctx.
func dialUnix(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

func (b bus) close() { _ = b.conn.Close() }

func (b bus) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return b.conn.Object(busName, busPath).CallWithContext(ctx, busManager+"."+method, 0, args...)
}

func (b bus) register(ctx context.Context, m Machine) error {
	links := make([]int32, len(m.NetworkInterfaces))
	for i, n := range m.NetworkInterfaces {
		links[i] = int32(n)
	}
	call := b.call(ctx, "RegisterMachineWithNetwork", m.Name, []byte{}, service, "container",
		uint32(m.Leader), m.RootDirectory, links)
	return busError(call.Err)
}

func (b bus) lookup(ctx context.Context, name string) (string, int, error) {
	var path dbus.ObjectPath
	if err := b.call(ctx, "GetMachine", name).Store(&path); err != nil {
		return "", 0, busError(err)
	}
	var props map[string]dbus.Variant
	err := b.conn.Object(busName, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, busMachine).Store(&props)
	if err != nil {
		return "", 0, busError(err)
	}
	unit, _ := props["Unit"].Value().(string)
	leader, _ := props["Leader"].Value().(uint32)
	return unit, int(leader), nil
}

func (b bus) unregister(ctx context.Context, name string) error {
	return busError(b.call(ctx, "UnregisterMachine", name).Err)
}

func busError(err error) error {
	var derr dbus.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &derr):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch derr.Name {
	case busErrExists:
		return errExists
	case busErrNone, "org.freedesktop.DBus.Error.UnknownObject":
		return errNone
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected",
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.ShuttingDown":
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("machined: %w", err)
}
