// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/term"
)

// errNotRunning is returned for a container that is installed but not running.
var errNotRunning = errors.New("not running")

// ExecOptions say what to run in a container.
type ExecOptions struct {
	// Args are the command and its arguments.
	Args []string
	// User is "USER" or "USER:GROUP", names or numbers of the container; empty
	// means the payload's user.
	User string
	// TTY gives the command a terminal of the container's own.
	TTY bool
	// Detach does not wait for the command, which has no input and no output.
	Detach bool
}

// Exec runs a command in a running container, in the cgroup of its unit and
// with the confinement of its payload, and returns its exit code: 128 plus the
// signal's number if a signal ended it.
//
// The command never gets a terminal of the host: with TTY it has one of the
// container's, otherwise a pipe in its place, as whoever holds a terminal can
// make its owner type commands.
func (l Launcher) Exec(name string, o ExecOptions) (int, error) {
	j, err := l.join(name)
	if err != nil {
		return 1, err
	}
	defer j.close()
	cmd := command{args: o.Args, user: o.User}
	if o.TTY {
		cmd.env = []string{"TERM=" + os.Getenv("TERM")}
	}
	p, err := j.process(cmd)
	if err != nil {
		return 1, err
	}
	switch {
	case o.Detach:
		return runDetached(j.container, p)
	case o.TTY:
		return runTTY(j.container, p)
	}
	return runPlain(j.container, p)
}

// runDetached leaves the command to the unit.
func runDetached(c *libcontainer.Container, p *libcontainer.Process) (int, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 1, err
	}
	defer null.Close()
	p.Stdin, p.Stdout, p.Stderr = null, null, null
	if err := c.Start(p); err != nil {
		return 1, fmt.Errorf("execute %q: %w", p.Args[0], err)
	}
	return 0, nil
}

// runPlain connects the command to the caller's streams.
func runPlain(c *libcontainer.Container, p *libcontainer.Process) (int, error) {
	var copies sync.WaitGroup
	var theirs []*os.File
	// A pipe takes the place of a terminal; other files are inherited.
	stream := func(f *os.File, in bool) (*os.File, error) {
		if !term.IsTerminal(int(f.Fd())) {
			return f, nil
		}
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if in {
			theirs = append(theirs, r)
			go func() { // ends with the program: nobody can interrupt the read
				_, _ = io.Copy(w, f)
				_ = w.Close()
			}()
			return r, nil
		}
		theirs = append(theirs, w)
		copies.Go(func() { _, _ = io.Copy(f, r) })
		return w, nil
	}
	stdin, err := stream(os.Stdin, true)
	if err != nil {
		return 1, err
	}
	stdout, err := stream(os.Stdout, false)
	if err != nil {
		return 1, err
	}
	stderr, err := stream(os.Stderr, false)
	if err != nil {
		return 1, err
	}
	p.Stdin, p.Stdout, p.Stderr = stdin, stdout, stderr
	err = c.Start(p)
	for _, f := range theirs {
		_ = f.Close()
	}
	if err != nil {
		return 1, fmt.Errorf("execute %q: %w", p.Args[0], err)
	}
	defer forwardSignals(p.Signal)()
	code, err := wait(p)
	copies.Wait()
	return code, err
}

// wait returns the exit code of a started process.
func wait(p *libcontainer.Process) (int, error) {
	state, err := p.Wait()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		return 1, fmt.Errorf("wait for %q: %w", p.Args[0], err)
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return state.ExitCode(), nil
}
