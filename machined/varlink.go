// SPDX-License-Identifier: Apache-2.0

package machined

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
)

// varlink speaks to machined over its own socket: one JSON object a message,
// ended by a zero byte.
type varlink struct {
	conn net.Conn
	in   *bufio.Reader
}

const varlinkInterface = "io.systemd.Machine."

func dialVarlink(ctx context.Context, socket string) (transport, error) {
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return nil, fmt.Errorf("connect to machined: %w", err)
	}
	return &varlink{conn, bufio.NewReader(conn)}, nil
}

func (v *varlink) close() { v.conn.Close() }

// call sends one request and decodes the parameters of its reply into out.
func (v *varlink) call(method string, parameters, out any) error {
	request, err := json.Marshal(map[string]any{"method": varlinkInterface + method, "parameters": parameters})
	if err != nil {
		return err
	}
	if _, err := v.conn.Write(append(request, 0)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	data, err := v.in.ReadBytes(0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return parseReply(data[:len(data)-1], out)
}

func parseReply(data []byte, out any) error {
	var reply struct {
		Error      string          `json:"error"`
		Parameters json.RawMessage `json:"parameters"`
	}
	if err := json.Unmarshal(data, &reply); err != nil {
		return fmt.Errorf("machined: %w", err)
	}
	switch reply.Error {
	case "":
	case varlinkInterface + "MachineExists":
		return errExists
	case varlinkInterface + "NoSuchMachine":
		return errNone
	default:
		return fmt.Errorf("machined: %s %s", reply.Error, reply.Parameters)
	}
	if out == nil || len(reply.Parameters) == 0 {
		return nil
	}
	if err := json.Unmarshal(reply.Parameters, out); err != nil {
		return fmt.Errorf("machined: %w", err)
	}
	return nil
}

func (v *varlink) register(_ context.Context, m Machine) error {
	p := map[string]any{
		"name": m.Name, "service": service, "class": "container",
		"leader": m.Leader, "rootDirectory": m.RootDirectory,
	}
	if len(m.NetworkInterfaces) > 0 {
		p["ifIndices"] = m.NetworkInterfaces
	}
	return v.call("Register", p, nil)
}

func (v *varlink) lookup(_ context.Context, name string) (string, int, error) {
	var out struct {
		Unit   string          `json:"unit"`
		Leader json.RawMessage `json:"leader"`
	}
	if err := v.call("List", map[string]any{"name": name}, &out); err != nil {
		return "", 0, err
	}
	return out.Unit, leaderOf(out.Leader), nil
}

// leaderOf reads a leader, which is a structure or, in some versions, a number.
func leaderOf(data json.RawMessage) int {
	var id struct {
		PID int `json:"pid"`
	}
	if json.Unmarshal(data, &id) == nil {
		return id.PID
	}
	var pid int
	_ = json.Unmarshal(data, &pid)
	return pid
}

func (v *varlink) unregister(_ context.Context, name string) error {
	return v.call("Unregister", map[string]any{"name": name}, nil)
}
