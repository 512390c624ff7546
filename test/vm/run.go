// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/test/vm/wire"
)

// baseEnv is the environment of every command.
var baseEnv = []string{
	"HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
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

// Journal returns the machine's journal over all its boots.
func (v *VM) Journal(ctx context.Context) (string, error) {
	res, err := v.Run(ctx, "journalctl", "--no-pager", "--quiet", "--merge", "--output=short-precise")
	return res.Stdout, err
}
