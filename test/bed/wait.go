// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"
)

const (
	systemdName  = "org.freedesktop.systemd1"
	systemdPath  = "/org/freedesktop/systemd1"
	unitIface    = systemdName + ".Unit"
	managerIface = systemdName + ".Manager"
)

// Bus connects to the bed's system bus as root. The caller closes it.
func (b *Bed) Bus(ctx context.Context) (*dbus.Conn, error) {
	boot := b.current()
	if boot == nil {
		return nil, fmt.Errorf("connect to bus: bed is off")
	}
	// The path goes through the bed's mount namespace: /run is its own.
	addr := fmt.Sprintf("unix:path=/proc/%d/root/run/dbus/system_bus_socket", boot.pid)
	conn, err := dbus.Connect(addr, dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connect to bus of bed %s: %w", b.opts.Name, err)
	}
	return conn, nil
}

// WaitUnit waits until a unit's ActiveState or SubState is state. It follows
// systemd's signals: there is no polling, and a state that lasts only for a
// moment is seen.
func (b *Bed) WaitUnit(ctx context.Context, unit, state string) error {
	conn, err := b.Bus(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost
	manager := conn.Object(systemdName, systemdPath)
	if err := manager.CallWithContext(ctx, managerIface+".Subscribe", 0).Err; err != nil {
		return fmt.Errorf("subscribe to systemd: %w", err)
	}
	var path dbus.ObjectPath
	if err := manager.CallWithContext(ctx, managerIface+".LoadUnit", 0, unit).Store(&path); err != nil {
		return fmt.Errorf("load unit %s: %w", unit, err)
	}
	signals := make(chan *dbus.Signal, 256)
	conn.Signal(signals)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchObjectPath(path),
		dbus.WithMatchInterface("org.freedesktop.DBus.Properties"), dbus.WithMatchMember("PropertiesChanged"))
	if err != nil {
		return fmt.Errorf("watch unit %s: %w", unit, err)
	}
	var last string
	object := conn.Object(systemdName, path)
	for _, property := range []string{"ActiveState", "SubState"} {
		v, err := object.GetProperty(unitIface + "." + property)
		if err != nil {
			return fmt.Errorf("ask state of unit %s: %w", unit, err)
		}
		if text, ok := v.Value().(string); ok {
			if text == state {
				return nil
			}
			last += " " + text
		}
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for unit %s to be %s (is%s): %w", unit, state, last, ctx.Err())
		case s, ok := <-signals:
			if !ok {
				return fmt.Errorf("wait for unit %s to be %s: the bus went away", unit, state)
			}
			states := changedStates(s)
			for _, text := range states {
				if text == state {
					return nil
				}
			}
			if len(states) > 0 {
				last = fmt.Sprint(" ", states)
			}
		}
	}
}

// changedStates returns the new ActiveState and SubState in a signal.
func changedStates(s *dbus.Signal) []string {
	if len(s.Body) < 2 {
		return nil
	}
	changed, ok := s.Body[1].(map[string]dbus.Variant)
	if !ok {
		return nil
	}
	var states []string
	for _, property := range []string{"ActiveState", "SubState"} {
		if text, ok := changed[property].Value().(string); ok {
			states = append(states, text)
		}
	}
	return states
}
