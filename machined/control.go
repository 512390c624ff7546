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
	"strings"

	"github.com/atomic-agent/atomic/internal/sdbus"
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

// askManager calls the service manager, which answers when the unit is frozen
// or thawed, and otherwise when the job is queued.
func askManager(ctx context.Context, method, unit string) error {
	args := []any{unit}
	if method == "StopUnit" || method == "RestartUnit" {
		args = append(args, "replace")
	}
	if err := sdbus.Call(ctx, method, args...); err != nil {
		return fmt.Errorf("%s %s: %w", method, unit, err)
	}
	return nil
}
