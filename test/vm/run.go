// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/test/vm/wire"
)

// baseEnv is the environment of every command.
var baseEnv = []string{
	"HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
}

// Run runs a program in the machine and returns its output. A non-zero exit
// code is a *bed.ExitError, and the result is valid.
func (v *VM) Run(ctx context.Context, args ...string) (bed.Result, error) {
	var stdout, stderr bytes.Buffer
	code, err := v.Exec(ctx, bed.Command{Args: args, Stdout: &stdout, Stderr: &stderr})
	res := bed.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: code}
	if err == nil && code != 0 {
		err = &bed.ExitError{Args: args, Code: code, Stderr: res.Stderr}
	}
	return res, err
}

// Exec runs a program in the machine with the caller's streams and returns its
// exit code: 128 plus the signal's number if a signal ended it. There are no
// terminals.
func (v *VM) Exec(ctx context.Context, c bed.Command) (int, error) {
	if len(c.Args) == 0 {
		return -1, errors.New("run in virtual machine: no command")
	}
	if c.TTY {
		return -1, fmt.Errorf("run %s: a virtual machine gives no terminal", c.Args[0])
	}
	conn := v.current()
	if conn == nil {
		return -1, fmt.Errorf("run %s: %w", c.Args[0], ErrDown)
	}
	spec := wire.Command{Args: c.Args, Env: append(append([]string{}, baseEnv...), c.Env...), Dir: c.Dir}
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	status, err := conn.run(ctx, spec, c.Stdin, orDiscard(c.Stdout), orDiscard(c.Stderr))
	if err != nil {
		return -1, fmt.Errorf("run %s: %w", strings.Join(c.Args, " "), err)
	}
	return status.Code, nil
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// CopyIn copies a file into the machine, with its permissions, and makes the
// directories it needs.
func (v *VM) CopyIn(ctx context.Context, source, target string) error {
	f, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copy into virtual machine: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("copy into virtual machine: %w", err)
	}
	return v.Write(ctx, target, info.Mode().Perm(), f)
}

// Write writes a file in the machine.
func (v *VM) Write(ctx context.Context, target string, mode os.FileMode, content io.Reader) error {
	var stderr bytes.Buffer
	code, err := v.Exec(ctx, bed.Command{
		Args:   []string{"sh", "-c", `mkdir -p "$1" && cat >"$2" && chmod "$3" "$2"`, "sh", filepath.Dir(target), target, fmt.Sprintf("%o", mode)},
		Stdin:  content,
		Stderr: &stderr,
	})
	if err == nil && code != 0 {
		err = errors.New(strings.TrimSpace(stderr.String()))
	}
	if err != nil {
		return fmt.Errorf("write %s in virtual machine: %w", target, err)
	}
	return nil
}

// CopyOut returns the content of a file of the machine.
func (v *VM) CopyOut(ctx context.Context, source string) ([]byte, error) {
	res, err := v.Run(ctx, "cat", "--", source)
	if err != nil {
		return nil, fmt.Errorf("copy out of virtual machine: %w", err)
	}
	return []byte(res.Stdout), nil
}

// WaitRunning waits until systemd has no jobs left and returns the state of the
// system: "running", or "degraded" if a unit failed.
func (v *VM) WaitRunning(ctx context.Context) (string, error) {
	res, err := v.Run(ctx, "systemctl", "is-system-running", "--wait")
	if exit := (*bed.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return "", err
	}
	return strings.TrimSpace(res.Stdout), nil
}

// Journal returns the machine's journal over all its boots.
func (v *VM) Journal(ctx context.Context) (string, error) {
	res, err := v.Run(ctx, "journalctl", "--no-pager", "--quiet", "--merge", "--output=short-precise")
	return res.Stdout, err
}
