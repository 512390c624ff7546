// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"io"
	"strconv"

	"github.com/atomic-agent/atomic/agent/launch"
)

// exitCode is the exit code of a command that was run.
type exitCode int

func (c exitCode) Error() string { return "exit code " + strconv.Itoa(int(c)) }

// execute runs a command in a container.
func execute(args []string) error {
	var o launch.ExecOptions
	f := flag.NewFlagSet("exec", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.BoolVar(&o.TTY, "t", false, "")
	f.BoolVar(&o.Detach, "d", false, "")
	f.StringVar(&o.User, "u", "", "")
	if f.Parse(args) != nil || f.NArg() < 2 {
		return errUsage
	}
	o.Args = f.Args()[1:]
	code, err := newLauncher().Exec(f.Arg(0), o)
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}
