// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Command is a program to run in a bed as root, outside all units.
type Command struct {
	Args []string
	// Env is added to a minimal environment: PATH, HOME, LANG and TERM.
	Env []string
	// Dir is the working directory; empty means "/".
	Dir            string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// TTY gives the program a terminal of the bed as standard input, output
	// and error; what it prints goes to Stdout.
	TTY bool
	// Terminal, if not nil, becomes the program's controlling terminal and its
	// standard input, output and error.
	Terminal *os.File
}

// Result is what a program left behind.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// ExitError is the error of a program that ended with a non-zero code.
type ExitError struct {
	Args   []string
	Code   int
	Stderr string
}

func (e *ExitError) Error() string {
	msg := fmt.Sprintf("%s: exit code %d", strings.Join(e.Args, " "), e.Code)
	if e.Stderr != "" {
		msg += "\n" + strings.TrimRight(e.Stderr, "\n")
	}
	return msg
}

// Exec runs a program in the bed with the caller's streams and returns its
// exit code: 128 plus the signal's number if a signal ended it.
func (b *Bed) Exec(ctx context.Context, c Command) (int, error) {
	if len(c.Args) == 0 {
		return -1, errors.New("run in bed: no command")
	}
	boot := b.current()
	if boot == nil {
		return -1, fmt.Errorf("run %s: bed is off", c.Args[0])
	}
	group, err := b.cgroup.open("bed.exec")
	if err != nil {
		return -1, fmt.Errorf("run %s: %w", c.Args[0], err)
	}
	defer group.Close()
	cmd := exec.CommandContext(ctx, "nsenter", enterArgs(boot.pid, c)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	switch {
	case c.Terminal != nil:
		cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Terminal, c.Terminal, c.Terminal
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	case !c.TTY:
		// nsenter waits for the program it runs; a signal must reach both.
		cmd.SysProcAttr.Setpgid = true
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	}
	// A daemon that the program left may hold its output open.
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		return 0, nil
	case ctx.Err() != nil:
		return -1, fmt.Errorf("run %s: %w", strings.Join(c.Args, " "), ctx.Err())
	case errors.As(err, &exit):
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return -1, fmt.Errorf("run %s: %w", c.Args[0], err)
}

// enterArgs returns the arguments of nsenter(1) for a command.
func enterArgs(pid int, c Command) []string {
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	term := os.Getenv("TERM")
	if term == "" || !c.TTY && c.Terminal == nil {
		term = "dumb"
	}
	args := []string{
		"--target", strconv.Itoa(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
		"/usr/bin/env", "-i", "-C", dir, "HOME=/root", "LANG=C.UTF-8", "TERM=" + term,
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
	}
	args = append(args, c.Env...)
	if c.TTY {
		return append(args, "script", "--quiet", "--return", "--command", shellQuote(c.Args), "/dev/null")
	}
	return append(args, c.Args...)
}

// shellQuote joins arguments into one line of sh(1).
func shellQuote(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// Shell runs a login shell of the bed on the caller's terminal until it ends.
func (b *Bed) Shell(ctx context.Context) error {
	_, err := b.Exec(ctx, Command{
		Args:  []string{"/bin/bash", "--login"},
		Dir:   "/root",
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		TTY: true,
	})
	return err
}
