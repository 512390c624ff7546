// SPDX-License-Identifier: Apache-2.0

package machined

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
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
	case "org.varlink.service.InvalidParameter":
		var p struct {
			Parameter string `json:"parameter"`
		}
		_ = json.Unmarshal(reply.Parameters, &p)
		return &parameterError{p.Parameter}
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

// register tells machined all it may know. An older machined refuses what it
// has not heard of, and is told less.
func (v *varlink) register(_ context.Context, m Machine) error {
	p := map[string]any{
		"name": m.Name, "service": service, "class": "container",
		"leader": m.Leader, "rootDirectory": m.RootDirectory,
	}
	if len(m.NetworkInterfaces) > 0 {
		p["ifIndices"] = m.NetworkInterfaces
	}
	if id := pidfdID(m.LeaderPIDFD); id != 0 {
		p["leaderProcessId"] = map[string]any{"pid": m.Leader, "pidfdId": id}
	}
	if m.Control != "" {
		p["controlAddress"] = m.Control
	}
	for {
		err := v.call("Register", p, nil)
		var bad *parameterError
		if !errors.As(err, &bad) || bad.name != "leaderProcessId" && bad.name != "controlAddress" {
			return err
		}
		if _, sent := p[bad.name]; !sent {
			return err
		}
		delete(p, bad.name)
	}
}

// pidfdID is what tells a process from a later one of the same PID, 0 if this
// kernel has none.
func pidfdID(fd int) uint64 {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if fd < 0 || unix.Fstat(fd, &st) != nil || unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PID_FS_MAGIC {
		return 0
	}
	return st.Ino
}

// parameterError is a call with a parameter that machined does not take.
type parameterError struct{ name string }

func (e *parameterError) Error() string { return "machined: it does not take the parameter " + e.name }

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
