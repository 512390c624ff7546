// SPDX-License-Identifier: Apache-2.0

// Package install changes which containers a host has: it installs, updates,
// rolls back and removes them, and says what is there.
//
// Every change is a transaction. Everything that can be found out beforehand
// is found out beforehand: the image is fetched, checked and rendered, the
// units are verified and the host is looked at. Then an intent (package
// intent) says what is about to happen, the files appear one by one, each
// atomically, and one rename makes the new deployment the container's current
// one. A crash before that rename is undone and a crash after it is completed,
// by whichever command comes next.
//
// The package knows neither template syntax (package unitgen) nor file-system
// formats (package store).
package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/atomic-agent/atomic/install/systemd"
	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/flock"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// Agent makes changes on one host. It is not safe for concurrent use; any
// number of agents, in any number of processes, may work on one host.
type Agent struct {
	host paths.Host
	conf *conf.Config
	log  *slog.Logger
	sd   *systemd.Manager
	// say prints a line for the administrator: what was done and what was
	// left alone.
	say func(format string, args ...any)
}

// New returns an agent for a host. say is called with each line of progress;
// log gets what is of interest to nobody but a developer.
func New(host paths.Host, log *slog.Logger, say func(format string, args ...any)) (*Agent, error) {
	c, err := conf.Load(host)
	if err != nil {
		return nil, err
	}
	return &Agent{host: host, conf: c, log: log, sd: systemd.New(host), say: say}, nil
}

// Close ends the agent's connections.
func (a *Agent) Close() { a.sd.Close() }

// begin takes the lock of a container for a change and settles what earlier
// commands left unfinished, of this container and of others.
func (a *Agent) begin(ctx context.Context, name string) (*flock.Lock, error) {
	if err := os.MkdirAll(a.host.Containers(), 0o755); err != nil {
		return nil, hint.Root(fmt.Errorf("prepare %s: %w", a.host.Containers(), err))
	}
	lock, err := a.lock(name)
	if err != nil {
		return nil, err
	}
	if err = a.settle(ctx, name); err == nil {
		err = a.sweep(ctx, name)
	}
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	if err := a.settleOthers(ctx, name); err != nil {
		a.say("Warning: %v", err)
	}
	return lock, nil
}

func (a *Agent) lock(name string) (*flock.Lock, error) {
	lock, err := flock.Try(filepath.Join(a.host.Locks(), name))
	if errors.Is(err, flock.ErrBusy) {
		var busy *flock.BusyError
		errors.As(err, &busy)
		return nil, hint.New(fmt.Errorf("%w: container %s (%s)", ErrBusy, name, busy.Holder), "wait until it is done and try again")
	}
	return lock, hint.Root(err)
}

// hostLock serialises the short part of a change that touches directories
// which containers share.
func (a *Agent) hostLock(ctx context.Context) (*flock.Lock, error) {
	return flock.Wait(ctx, filepath.Join(a.host.Locks(), ".host"))
}
