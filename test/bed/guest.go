// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Executor runs programs in a booted system; see Bed.Exec.
type Executor interface {
	Exec(ctx context.Context, c Command) (int, error)
}

// Guest is what follows from being able to run programs in a booted system. A
// Bed and a virtual machine embed one.
type Guest struct{ in Executor }

// NewGuest returns the guest that runs its programs with in.
func NewGuest(in Executor) Guest { return Guest{in} }

// Run runs a program and returns its output. A non-zero exit code is an
// *ExitError, and the result is valid.
func (g Guest) Run(ctx context.Context, args ...string) (Result, error) {
	var stdout, stderr bytes.Buffer
	code, err := g.in.Exec(ctx, Command{Args: args, Stdout: &stdout, Stderr: &stderr})
	res := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: code}
	if err == nil && code != 0 {
		err = &ExitError{Args: args, Code: code, Stderr: res.Stderr}
	}
	return res, err
}

// CopyIn copies a file of the machine into the guest, with its permissions, and
// makes the directories it needs.
func (g Guest) CopyIn(ctx context.Context, source, target string) error {
	f, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copy into guest: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("copy into guest: %w", err)
	}
	return g.Write(ctx, target, info.Mode().Perm(), f)
}

// Write writes a file in the guest and makes the directories it needs.
func (g Guest) Write(ctx context.Context, target string, mode os.FileMode, content io.Reader) error {
	var stderr bytes.Buffer
	code, err := g.in.Exec(ctx, Command{
		Args:   []string{"sh", "-c", `mkdir -p "$1" && cat >"$2" && chmod "$3" "$2"`, "sh", filepath.Dir(target), target, fmt.Sprintf("%o", mode)},
		Stdin:  content,
		Stderr: &stderr,
	})
	if err == nil && code != 0 {
		err = errors.New(strings.TrimSpace(stderr.String()))
	}
	if err != nil {
		return fmt.Errorf("write %s in guest: %w", target, err)
	}
	return nil
}

// CopyOut returns the content of a file of the guest.
func (g Guest) CopyOut(ctx context.Context, source string) ([]byte, error) {
	res, err := g.Run(ctx, "cat", "--", source)
	if err != nil {
		return nil, fmt.Errorf("copy out of guest: %w", err)
	}
	return []byte(res.Stdout), nil
}

// WaitRunning waits until systemd has no jobs left and returns the state of the
// system: "running", or "degraded" if a unit failed.
func (g Guest) WaitRunning(ctx context.Context) (string, error) {
	res, err := g.Run(ctx, "systemctl", "is-system-running", "--wait")
	if exit := (*ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return "", err
	}
	return strings.TrimSpace(res.Stdout), nil
}
