// SPDX-License-Identifier: Apache-2.0

package machined

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// controlInterface is what machinectl of systemd 261 and later speaks to a
// machine's control server.
const controlInterface = "io.systemd.MachineInstance."

// controls are the calls that a service manager can answer, by its own.
var controls = map[string]string{
	"Terminate": "StopUnit", "PowerOff": "StopUnit", "Reboot": "RestartUnit",
	"Pause": "FreezeUnit", "Resume": "ThawUnit",
}

// maxControl bounds one request.
const maxControl = 64 << 10

// ServeControl answers one connection of machinectl that asks for a machine's
// stop, restart or pause: it is the machine's unit that is stopped, restarted
// or frozen. Whoever calls it has checked that the peer is root.
func ServeControl(ctx context.Context, conn net.Conn, unit string) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return fmt.Errorf("serve control: %w", err)
		}
	}
	in := bufio.NewReader(io.LimitReader(conn, maxControl))
	for {
		data, err := in.ReadBytes(0)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve control: %w", err)
		}
		reply, err := json.Marshal(answerControl(data[:len(data)-1], func(method string) error { return askManager(ctx, method, unit) }))
		if err != nil {
			return fmt.Errorf("serve control: %w", err)
		}
		if _, err := conn.Write(append(reply, 0)); err != nil {
			return fmt.Errorf("serve control: %w", err)
		}
	}
}

type controlReply struct {
	Error      string         `json:"error,omitempty"`
	Parameters map[string]any `json:"parameters"`
}

// answerControl does what a request asks for.
func answerControl(request []byte, do func(method string) error) controlReply {
	var call struct {
		Method string `json:"method"`
	}
	if err := json.Unmarshal(request, &call); err != nil {
		return controlReply{"org.varlink.service.InvalidParameter", map[string]any{"parameter": "method"}}
	}
	name, ours := strings.CutPrefix(call.Method, controlInterface)
	method, known := controls[name]
	if !ours || !known {
		return controlReply{"org.varlink.service.MethodNotFound", map[string]any{"method": call.Method}}
	}
	if err := do(method); err != nil {
		return controlReply{"io.systemd.System", map[string]any{"origin": "linux", "errno": 5, "errnoName": "EIO", "message": err.Error()}}
	}
	return controlReply{Parameters: map[string]any{}}
}

// askManager calls the service manager on its own socket, which needs no bus
// daemon.
func askManager(ctx context.Context, method, unit string) error {
	conn, err := dbus.Dial("unix:path=/run/systemd/private", dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	args := []any{unit}
	if method == "StopUnit" || method == "RestartUnit" {
		args = append(args, "replace")
	}
	manager := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	call := manager.GoWithContext(ctx, "org.freedesktop.systemd1.Manager."+method, 0, make(chan *dbus.Call, 1), args...)
	var froze <-chan error
	if want := map[string]string{"FreezeUnit": "frozen", "ThawUnit": "running"}[method]; want != "" {
		froze = waitFrozen(ctx, conn, unit, want)
	}
	select {
	case <-call.Done:
		err = call.Err
	case err = <-froze:
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, unit, err)
	}
	return nil
}

// waitFrozen waits for a unit's freezer: systemd 262 was seen to freeze a unit
// and not to answer.
func waitFrozen(ctx context.Context, conn *dbus.Conn, unit, want string) <-chan error {
	done := make(chan error, 1)
	go func() {
		manager := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
		var path dbus.ObjectPath
		err := manager.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.LoadUnit", 0, unit).Store(&path)
		for err == nil {
			var state dbus.Variant
			err = conn.Object("org.freedesktop.systemd1", path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0,
				"org.freedesktop.systemd1.Unit", "FreezerState").Store(&state)
			if err == nil && state.Value() == want {
				break
			}
			if err == nil {
				err = pause(ctx, 10*time.Millisecond)
			}
		}
		done <- err
	}()
	return done
}
