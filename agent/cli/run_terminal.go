// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/install/systemd"
)

// runOnTerminal runs a command on a terminal of its container and connects that
// to the caller's, which is raw meanwhile.
func runOnTerminal(ctx context.Context, g *globals, a *install.Agent, once *install.Once) (int, error) {
	stdin, ok := g.In.(*os.File)
	if !ok {
		return 1, &usageError{errors.New("--tty needs a terminal")}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: once.Console, Net: "unix"})
	if err != nil {
		return 1, fmt.Errorf("wait for a terminal: %w", err)
	}
	connected := make(chan error, 1)
	go func() { connected <- connect(l, stdin, g.Out) }()
	code, err := a.RunOnce(ctx, once, systemd.Streams{In: strings.NewReader(""), Out: hideTerminal(g.Err), Err: hideTerminal(g.Err)})
	_ = l.Close() // whether or not anybody came
	if cerr := <-connected; err == nil && code == 0 {
		err = cerr
	}
	return code, err
}

// connect copies between the container's terminal, which arrives at the socket,
// and the caller's until the former is closed.
func connect(l *net.UnixListener, in *os.File, out io.Writer) error {
	conn, err := l.AcceptUnix()
	if err != nil {
		return fmt.Errorf("wait for a terminal: %w", err)
	}
	defer func() { _ = conn.Close() }()
	pty, err := receiveFile(conn)
	if err != nil {
		return err
	}
	defer pty.Close()
	fd := int(in.Fd()) //nolint:gosec // a descriptor is small
	if before, err := term.MakeRaw(fd); err == nil {
		defer func() { _ = term.Restore(fd, before) }()
	}
	resize(fd, pty)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	go func() {
		for range resized {
			resize(fd, pty)
		}
	}()
	go func() { _, _ = io.Copy(pty, in) }() // ends with the program
	_, _ = io.Copy(out, pty)                // ends with EIO when the last holder is gone
	return nil
}

// receiveFile takes the descriptor that comes with a message.
func receiveFile(conn *net.UnixConn) (*os.File, error) {
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, fmt.Errorf("receive a terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("receive a terminal: none was sent")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("receive a terminal: none was sent")
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil //nolint:gosec // a descriptor is not negative
}

func resize(from int, to *os.File) {
	if size, err := unix.IoctlGetWinsize(from, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(to.Fd()), unix.TIOCSWINSZ, size) //nolint:gosec // a descriptor is small
	}
}
