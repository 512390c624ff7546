// SPDX-License-Identifier: Apache-2.0

// Atomic-start starts a container by its compiled plan. It is what the unit of
// a container executes whose configuration could be compiled; it leaves every
// other start to atomic-launch. It is a program of its own, without cgo and
// libcontainer, because its size is a part of what a start costs. See
// docs/man/atomic-launch.8.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"github.com/atomic-agent/atomic/agent/launch"
	"github.com/atomic-agent/atomic/agent/launch/journal"
	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/machined"
)

// The first thread, which stands for the whole process in /proc, must not be the
// one that joins the container (setup.Make).
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) == 6 && os.Args[1] == "run" {
		os.Exit(run(os.Args[2:]))
	}
	if len(os.Args) != 3 || os.Args[1] != "start" {
		fmt.Fprintln(os.Stderr, "usage: atomic-start start NAME")
		os.Exit(2)
	}
	// The first thread only waits: a goroutine that is bound to a thread costs a
	// switch of threads whenever it waits for another one.
	done := make(chan int)
	go func() { done <- exit(start(context.Background(), os.Args[2])) }()
	os.Exit(<-done)
}

func start(ctx context.Context, name string) error {
	l := launch.Launcher{
		Host:   paths.Host{Root: os.Getenv("ATOMIC_ROOT")},
		Log:    slog.New(journal.New(os.Stderr)),
		Notify: os.Getenv("NOTIFY_SOCKET"),
	}
	cfg, err := conf.Load(l.Host)
	if err != nil {
		return err
	}
	if cfg.Launch.Engine != conf.EnginePlan {
		return other(name)
	}
	l.TPM = cfg.TPM
	if cfg.Machined.Register {
		l.Registrar = machined.Client{Host: l.Host}
	}
	if err := l.StartPlanned(ctx, name); !errors.Is(err, launch.ErrNoPlan) {
		return err
	}
	return other(name)
}

// run runs a compiled bundle, for `atomic-launch run --engine plan`: the
// descriptor of the plan, an ID, the root file system and a PID file.
func run(args []string) int {
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return exit(err)
	}
	syscall.CloseOnExec(fd)
	code, err := launch.RunPlan(os.NewFile(uintptr(fd), "plan"), launch.PlannedBundle{ID: args[1], Root: args[2], PIDFile: args[3]})
	if err != nil {
		return exit(err)
	}
	return code
}

// other becomes the other engine.
func other(name string) error {
	err := syscall.Exec(paths.Launcher, []string{paths.Launcher, "start", name}, os.Environ())
	return fmt.Errorf("execute %s: %w", paths.Launcher, err)
}

// exit reports an error and returns the exit code that means it.
func exit(err error) int {
	var reported *launch.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &reported):
		return reported.Code // init has said why
	}
	hint.Print(os.Stderr, err)
	if errors.Is(err, launch.ErrNotInstalled) {
		return 3
	}
	return 1
}
