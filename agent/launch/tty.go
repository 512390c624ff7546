// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// runTTY gives the command a terminal of the container's own and connects it
// to the caller's, which is raw meanwhile: what is typed, signals included, is
// the command's.
func runTTY(c *libcontainer.Container, p *libcontainer.Process) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 1, fmt.Errorf("open terminal: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "console"), os.NewFile(uintptr(pair[1]), "console")
	defer ours.Close()
	p.ConsoleSocket = theirs
	if w, h, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		p.ConsoleWidth, p.ConsoleHeight = uint16(w), uint16(h)
	}
	err = c.Start(p)
	_ = theirs.Close()
	if err != nil {
		return 1, fmt.Errorf("execute %q: %w", p.Args[0], err)
	}
	pty, err := receiveTerminal(ours)
	if err != nil {
		return 1, errors.Join(err, p.Signal(os.Kill))
	}
	defer pty.Close()
	restore, err := raw(os.Stdin)
	if err != nil {
		return 1, errors.Join(err, p.Signal(os.Kill))
	}
	defer restore()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	go func() {
		for range resized {
			resize(os.Stdout, pty)
		}
	}()
	go func() { _, _ = io.Copy(pty, os.Stdin) }() // ends with the program
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(os.Stdout, pty) // ends with EIO when the last holder is gone
		close(copied)
	}()
	code, err := wait(p)
	<-copied
	return code, err
}

// receiveTerminal takes the terminal that init opened in the container.
func receiveTerminal(socket *os.File) (*os.File, error) {
	buf, oob := make([]byte, 4096), make([]byte, 64)
	_, oobn, _, _, err := recvmsg(int(socket.Fd()), buf, oob)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	_, fds := control(oob[:oobn])
	if len(fds) != 1 {
		return nil, errors.New("open terminal: none was sent")
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// raw makes the caller's terminal raw, if it has one.
func raw(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	return func() { _ = term.Restore(fd, before) }, nil
}

func resize(from, to *os.File) {
	if size, err := unix.IoctlGetWinsize(int(from.Fd()), unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(to.Fd()), unix.TIOCSWINSZ, size)
	}
}
