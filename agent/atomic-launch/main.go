// SPDX-License-Identifier: Apache-2.0

// Atomic-launch is the start path of atomic's containers: what systemd runs to
// start one, to clean up after it and to mount its root file system. People use
// atomic(1) instead. See docs/man/atomic-launch.8.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // sets up namespaces before Go does

	"github.com/atomic-agent/atomic/agent/launch"
	"github.com/atomic-agent/atomic/internal/hint"
)

const usage = `usage: atomic-launch start NAME
       atomic-launch exec [-d | -t] [-u UID[:GID]] NAME COMMAND [ARGUMENT...]
       atomic-launch health [--once] NAME
       atomic-launch bus NAME
       atomic-launch utmp LINE PID
       atomic-launch cleanup NAME | --all
       atomic-launch register --pending
       atomic-launch notify NAME
       atomic-launch run --bundle DIR [--id ID] [--engine oci] [--pid-file FILE]
       atomic-launch mount WHAT WHERE [-o OPTIONS]
`

func main() {
	// The container's init, and every process that joins a container, is this
	// program once more: libcontainer executes it inside the namespaces.
	if len(os.Args) > 1 && os.Args[1] == "init" {
		launch.TakeTerminal()
		libcontainer.Init()
	}
	args := os.Args[1:]
	if isMountHelper() {
		args = append([]string{"mount"}, args...)
	}
	os.Exit(exit(run(context.Background(), args)))
}

// errUsage is a command line that makes no sense.
var errUsage = errors.New("usage")

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	switch verb, rest := args[0], args[1:]; {
	case verb == "start" && len(rest) == 1:
		return start(ctx, rest[0])
	case verb == "exec":
		return execute(rest)
	case verb == "health" && len(rest) == 1:
		return newLauncher().Health(ctx, rest[0])
	case verb == "health" && len(rest) == 2 && rest[0] == "--once":
		return newLauncher().HealthOnce(ctx, rest[1])
	case verb == "notify" && len(rest) == 1:
		return forward(rest[0])
	case verb == "run":
		return runBundle(ctx, rest)
	case verb == "bus" && len(rest) == 1:
		return bus(ctx, rest[0])
	case verb == "utmp" && len(rest) == 2:
		return endSession(rest[0], rest[1])
	case verb == "cleanup" && len(rest) == 1 && rest[0] == "--all":
		return cleanupAll(ctx)
	case verb == "cleanup" && len(rest) == 1:
		return cleanup(ctx, rest[0])
	case verb == "register" && len(rest) == 1 && rest[0] == "--pending":
		return registerPending(ctx)
	case verb == "seccomp" && len(rest) == 0:
		return launch.WriteSeccomp(ctx, os.Stdin, os.Stdout)
	case verb == "load-seccomp" && len(rest) == 0:
		return loadSeccomp()
	case verb == "mount":
		return mountImage(rest)
	}
	return errUsage
}

// exit reports an error and returns the exit code that means it.
func exit(err error) int {
	var created *launch.ExitError
	var ended exitCode
	var ill *launch.UnhealthyError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		return 2
	case errors.As(err, &created):
		return created.Code // the reason has been told
	case errors.As(err, &ended):
		return int(ended)
	case errors.As(err, &ill) && len(os.Args) > 2 && os.Args[2] == "--once":
		fmt.Println(ill.Answer) // for whoever waits
		return 1
	}
	report(err)
	switch {
	case errors.Is(err, launch.ErrNotInstalled):
		return 3
	case errors.Is(err, launch.ErrNoAnswer):
		return tryAgain
	}
	return 1
}

// tryAgain has atomic-register.service started again in a while.
const tryAgain = 75

// report tells people why something failed.
func report(err error) { hint.Print(os.Stderr, err) }
