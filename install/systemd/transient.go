// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/atomic-agent/atomic/internal/hint"
)

// Transient is a service that exists as long as it runs.
type Transient struct {
	Name       string
	Properties []string // KEY=VALUE, as unit files have them
	Command    []string
}

// Streams are the standard streams of a transient service that runs in the
// foreground. Whatever they are, the service gets just that: no terminals.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Parse reads a unit file.
func Parse(text []byte) ([]*unit.UnitOption, error) {
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	for _, o := range options {
		o.Value = strings.ReplaceAll(o.Value, "\\\n", " ")
	}
	return options, err
}

// StartTransient starts a transient service and waits until it is up.
func (m *Manager) StartTransient(ctx context.Context, t Transient) error {
	var stderr bytes.Buffer
	cmd := transient(ctx, t)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return hint.New(fmt.Errorf("start %s: %s", t.Name, strings.TrimSpace(stderr.String())), "see journalctl -u "+t.Name)
	}
	return nil
}

// RunTransient runs a transient service in the foreground and returns its exit
// code. If ctx ends, the service is stopped.
func (m *Manager) RunTransient(ctx context.Context, t Transient, s Streams) (int, error) {
	// systemd-run outlives an interrupt from the terminal: it is to report how
	// the service ended that this function stops.
	cmd := transient(context.WithoutCancel(ctx), t, "--wait", "--pipe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Out, s.Err
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("run %s: %w", t.Name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		if serr := m.Stop(context.WithoutCancel(ctx), t.Name); serr != nil {
			err = serr
		}
		err = errors.Join(err, <-ended)
	}
	var exited *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exited):
		return exited.ExitCode(), nil
	}
	return 1, fmt.Errorf("run %s: %w", t.Name, err)
}

// transient calls systemd-run, which knows how every property of a unit file is
// passed on the bus.
func transient(ctx context.Context, t Transient, options ...string) *exec.Cmd {
	args := append([]string{"--quiet", "--no-ask-password", "--collect", "--unit=" + t.Name}, options...)
	for _, p := range t.Properties {
		args = append(args, "--property="+p)
	}
	return exec.CommandContext(ctx, "systemd-run", append(append(args, "--"), t.Command...)...)
}
