// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/atomic-agent/atomic/internal/hint"
)

// ErrNotRunning is returned for a container that is installed but not running.
var ErrNotRunning = errors.New("not running")

// ExecOptions say what to run in a container.
type ExecOptions struct {
	// Args are the command and its arguments.
	Args []string
	// User is "UID" or "UID:GID"; empty means the payload's user.
	User string
	// TTY gives the command a terminal of the container's own.
	TTY bool
}

// Exec runs a command in a running container, in the cgroup of its unit and
// with the confinement of its payload, and returns its exit code: 128 plus the
// signal's number if a signal ended it.
//
// The command never gets a terminal of the host: with TTY it has one of the
// container's, otherwise a pipe in its place, as whoever holds a terminal can
// make its owner type commands.
func (l Launcher) Exec(name string, o ExecOptions) (int, error) {
	d, err := open(l.Host, name)
	if err != nil {
		return 1, err
	}
	c, err := l.running(d)
	if err != nil {
		return 1, err
	}
	p, err := d.command(o)
	if err != nil {
		return 1, err
	}
	if o.TTY {
		return runTTY(c, p)
	}
	return runPlain(c, p)
}

// running opens a running container.
func (l Launcher) running(d *deployment) (*libcontainer.Container, error) {
	name := d.name
	if err := l.describe(d); err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	notRunning := hint.New(fmt.Errorf("container %q: %w", name, ErrNotRunning), "systemctl start "+name)
	c, err := libcontainer.Load(runOf(l.Host, name).state(), name)
	if errors.Is(err, libcontainer.ErrNotExist) {
		return nil, notRunning
	}
	if err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	state, err := c.State()
	if err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	if err := setCgroupManager(c, unitCgroup{state.CgroupPaths[""]}); err != nil {
		return nil, err
	}
	status, err := c.Status()
	if err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	if status != libcontainer.Running {
		return nil, notRunning
	}
	return c, nil
}

// command is the payload's process with another command in it. The
// notification socket is not its business.
func (d *deployment) command(o ExecOptions) (*libcontainer.Process, error) {
	spec, err := d.parseSpec()
	if err != nil {
		return nil, err
	}
	dropLabels(spec, nil) // which the start has warned about
	p, err := process(spec.Process)
	if err != nil {
		return nil, err
	}
	p.Args = o.Args
	p.Env = payloadEnv(envInput{config: p.Env, notify: notifyLauncher})
	p.Stdin, p.Stdout, p.Stderr = nil, nil, nil
	if o.TTY {
		env := environment(p.Env)
		env.set("TERM=" + os.Getenv("TERM"))
		p.Env = env
	}
	if o.User == "" {
		return p, nil
	}
	uid, gid, hasGID := strings.Cut(o.User, ":")
	p.AdditionalGroups = nil
	if p.UID, err = id(uid); err == nil && hasGID {
		p.GID, err = id(gid)
	}
	return p, err
}

func id(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("user %q: want UID or UID:GID in numbers", s)
	}
	return int(n), nil
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
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			_ = p.Signal(s)
		}
	}()
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
