// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/godbus/dbus/v5"
)

// Sessions starts sessions in a container. Both calls return as soon as the
// session runs; the text of their error is shown to the user of machinectl.
type Sessions interface {
	// Login runs whatever asks for a name on a pseudo terminal of the
	// container, "pts/0" for example.
	Login(ctx context.Context, terminal string) error
	// Shell runs a command. Its files are closed when Shell has returned.
	Shell(ctx context.Context, s Shell) error
}

// Shell is a command that machined asks for.
type Shell struct {
	// Terminal is the pseudo terminal behind the streams, "pts/0" for example.
	Terminal              string
	Stdin, Stdout, Stderr *os.File
	// User is a name or a UID of the container.
	User string
	// Dir is the working directory; "~" is the user's home directory, or /
	// if it does not exist.
	Dir string
	// Env wins over the environment that the session has anyway.
	Env []string
	// Path is the program and Args its arguments, without the zeroth.
	Path string
	Args []string
}

// Bounds of one connection. machined needs four calls at most; what it sends
// is smaller than this unless a user's command line is very long.
const (
	maxLines   = 16
	maxLine    = 512
	maxMessage = 256 << 10
	maxFiles   = 16
	maxCalls   = 8
)

// Names on the bus.
const (
	busName     = "org.freedesktop.DBus"
	managerName = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
	manager     = managerName + ".Manager"
	ourName     = ":1.1"

	errFailed   = "org.freedesktop.DBus.Error.Failed"
	errUnknown  = "org.freedesktop.DBus.Error.UnknownMethod"
	errBadArgs  = "org.freedesktop.DBus.Error.InvalidArgs"
	errTimedOut = "org.freedesktop.DBus.Error.Timeout"
)

// errDone ends a connection that has done its work.
var errDone = errors.New("done")

// Serve answers one connection until it has asked for a session, misbehaves,
// ends, or ctx does.
func Serve(ctx context.Context, conn *net.UnixConn, s Sessions) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return fmt.Errorf("serve login: %w", err)
		}
	}
	in := &stream{conn: conn}
	defer in.close()
	if err := handshake(in, conn); err != nil {
		return fmt.Errorf("serve login: authenticate: %w", err)
	}
	c := connection{in: in, out: conn, sessions: s}
	for range maxCalls {
		err := c.serve(ctx)
		if errors.Is(err, errDone) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve login: %w", err)
		}
	}
	return errors.New("serve login: too many calls")
}

type connection struct {
	in       *stream
	out      net.Conn
	sessions Sessions
	replies  uint32
}

// serve answers one message.
func (c *connection) serve(ctx context.Context) error {
	msg, files, err := c.in.message()
	if err != nil {
		return err
	}
	defer closeAll(files)
	if msg.Type != dbus.TypeMethodCall {
		return nil
	}
	iface, member := header(msg, dbus.FieldInterface), header(msg, dbus.FieldMember)
	switch {
	case iface == busName && member == "Hello":
		return c.reply(msg, busName, ourName)
	case iface == manager && member == "StartUnit":
		return c.started(msg, c.login(ctx, msg))
	case iface == manager && member == "StartTransientUnit":
		return c.started(msg, c.shell(ctx, msg, files))
	}
	return c.fail(msg, errUnknown, "this is not a service manager: it starts sessions for machinectl login and machinectl shell")
}

func (c *connection) login(ctx context.Context, msg *dbus.Message) error {
	terminal, err := parseLogin(msg)
	if err != nil {
		return err
	}
	return c.sessions.Login(ctx, terminal)
}

func (c *connection) shell(ctx context.Context, msg *dbus.Message, files []*os.File) error {
	s, err := parseShell(msg, files)
	if err != nil {
		return err
	}
	return c.sessions.Shell(ctx, s)
}

// started answers a call for a session, which is the last of a connection.
func (c *connection) started(msg *dbus.Message, err error) error {
	var bad *argumentError
	switch {
	case err == nil:
		err = c.reply(msg, managerName, dbus.ObjectPath(managerPath+"/job/1"))
	case errors.As(err, &bad):
		err = c.fail(msg, errBadArgs, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		err = c.fail(msg, errTimedOut, err.Error())
	default:
		err = c.fail(msg, errFailed, err.Error())
	}
	if err == nil {
		err = errDone
	}
	return err
}

func (c *connection) reply(call *dbus.Message, sender string, value any) error {
	return c.send(call, &dbus.Message{
		Type: dbus.TypeMethodReply,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldSender:    dbus.MakeVariant(sender),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(value)),
		},
		Body: []any{value},
	})
}

func (c *connection) fail(call *dbus.Message, name, text string) error {
	return c.send(call, &dbus.Message{
		Type: dbus.TypeError,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldSender:    dbus.MakeVariant(managerName),
			dbus.FieldErrorName: dbus.MakeVariant(name),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(text)),
		},
		Body: []any{text},
	})
}

// send answers a call, unless its sender does not want to know.
func (c *connection) send(call, msg *dbus.Message) error {
	if call.Flags&dbus.FlagNoReplyExpected != 0 {
		return nil
	}
	c.replies++
	msg.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(call.Serial())
	msg.Headers[dbus.FieldDestination] = dbus.MakeVariant(ourName)
	data, err := encode(msg, c.replies)
	if err != nil {
		return err
	}
	_, err = c.out.Write(data)
	return err
}
