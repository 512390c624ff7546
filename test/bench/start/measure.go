// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	systemd      = "org.freedesktop.systemd1"
	managerPath  = "/org/freedesktop/systemd1"
	managerIface = systemd + ".Manager"
	unitIface    = systemd + ".Unit"
)

// sample is one start and stop.
type sample struct {
	start, inside, stop time.Duration
}

// manager speaks to the bed's systemd. Its calls cost the same for all.
type manager struct {
	conn    *dbus.Conn
	object  dbus.BusObject
	removed chan *dbus.Signal
}

func newManager(ctx context.Context, conn *dbus.Conn) (*manager, error) {
	m := &manager{conn, conn.Object(systemd, managerPath), make(chan *dbus.Signal, 64)}
	conn.Signal(m.removed)
	if err := m.object.CallWithContext(ctx, managerIface+".Subscribe", 0).Err; err != nil {
		return nil, fmt.Errorf("subscribe to systemd: %w", err)
	}
	err := conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(managerIface), dbus.WithMatchMember("JobRemoved"))
	return m, err
}

// measure starts a unit and stops it again.
func (m *manager) measure(ctx context.Context, unit string) (sample, error) {
	var s sample
	var err error
	if s.start, err = m.job(ctx, "StartUnit", unit); err != nil {
		return s, err
	}
	if s.inside, err = m.inside(ctx, unit); err != nil {
		return s, err
	}
	s.stop, err = m.job(ctx, "StopUnit", unit)
	return s, err
}

// job runs one job and waits for its end.
func (m *manager) job(ctx context.Context, method, unit string) (time.Duration, error) {
	began := time.Now()
	var path dbus.ObjectPath
	if err := m.object.CallWithContext(ctx, managerIface+"."+method, 0, unit, "replace").Store(&path); err != nil {
		return 0, fmt.Errorf("%s: %w", method, err)
	}
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case s := <-m.removed:
			if s == nil || len(s.Body) != 4 || s.Body[1] != path {
				continue
			}
			if s.Body[3] != "done" {
				return 0, fmt.Errorf("%s: %v", method, s.Body[3])
			}
			return time.Since(began), nil
		}
	}
}

// inside is how long the unit was activating.
func (m *manager) inside(ctx context.Context, unit string) (time.Duration, error) {
	var path dbus.ObjectPath
	if err := m.object.CallWithContext(ctx, managerIface+".GetUnit", 0, unit).Store(&path); err != nil {
		return 0, err
	}
	at := func(name string) (uint64, error) {
		v, err := m.conn.Object(systemd, path).GetProperty(unitIface + "." + name)
		if err != nil {
			return 0, err
		}
		us, ok := v.Value().(uint64)
		if !ok {
			return 0, fmt.Errorf("%s is no time", name)
		}
		return us, nil
	}
	from, err := at("InactiveExitTimestampMonotonic")
	if err != nil {
		return 0, err
	}
	to, err := at("ActiveEnterTimestampMonotonic")
	return time.Duration(to-from) * time.Microsecond, err
}
