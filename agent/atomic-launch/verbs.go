// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/sirupsen/logrus"

	"github.com/atomic-agent/atomic/agent/launch"
	"github.com/atomic-agent/atomic/agent/launch/journal"
	"github.com/atomic-agent/atomic/agent/launch/twin"
	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/machined"
)

func host() paths.Host { return paths.Host{Root: os.Getenv("ATOMIC_ROOT")} }

// newLauncher is a launcher for the running host.
func newLauncher() launch.Launcher {
	logrus.SetFormatter(runtimeLog{})
	return launch.Launcher{
		Host:   host(),
		Log:    slog.New(journal.New(os.Stderr)),
		Notify: os.Getenv("NOTIFY_SOCKET"),
		Report: report,
	}
}

func start(ctx context.Context, name string) error {
	socket := twin.Socket()
	if socket == nil {
		return errors.New("the launcher was not split, start it with exactly the arguments \"start NAME\"")
	}
	l := newLauncher()
	if twin.Creator() == 0 {
		return l.Create(ctx, name, socket)
	}
	cfg, err := conf.Load(l.Host)
	if err != nil {
		return l.Abandon(twin.Creator(), err)
	}
	l.TPM = cfg.TPM
	if cfg.Machined.Register {
		l.Registrar = machined.Client{Host: l.Host}
	}
	return l.Start(ctx, name, socket, twin.Creator())
}

func cleanup(ctx context.Context, name string) error {
	l := newLauncher()
	return l.Cleanup(ctx, name, machined.Client{Host: l.Host})
}

func cleanupAll(ctx context.Context) error {
	l := newLauncher()
	return l.CleanupAll(ctx, machined.Client{Host: l.Host})
}

func registerPending(ctx context.Context) error {
	l := newLauncher()
	cfg, err := conf.Load(l.Host)
	if err != nil || !cfg.Machined.Register {
		return err
	}
	l.Registrar = machined.Client{Host: l.Host, Activate: true}
	return l.RegisterPending(ctx)
}

// forward serves the socket of atomic-notify@NAME.socket, which systemd passes
// as descriptor 3.
func forward(name string) error {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return errors.New("no socket was passed, atomic-notify@.service runs this command")
	}
	return newLauncher().Forward(name, 3)
}

// bus answers the connection that is standard input.
func bus(ctx context.Context, name string) error {
	conn, err := net.FileConn(os.Stdin)
	if err != nil {
		return fmt.Errorf("take connection: %w", err)
	}
	defer conn.Close()
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("take connection: standard input is no local socket")
	}
	return newLauncher().ServeBus(ctx, name, socket)
}

// endSession waits for the end of a session that is in the container's utmp.
func endSession(line, pid string) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return errUsage
	}
	return launch.EndSession(line, n)
}
