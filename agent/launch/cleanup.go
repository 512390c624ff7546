// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/machined"
)

// Unregistrar removes a container from machined if it belongs to unit.
type Unregistrar interface {
	Unregister(ctx context.Context, name, unit string) error
}

// Cleanup undoes what a start of the container left on the host. systemd calls
// it after every stop (ExecStopPost=), and the next start does the same again,
// so it may be repeated, interrupted and skipped. It touches nothing while the
// container's init is alive.
func (l Launcher) Cleanup(ctx context.Context, name string, bus Unregistrar) error {
	if err := record.CheckName(name); err != nil {
		return err
	}
	run := runOf(l.Host, name)
	alive, err := run.alive(name)
	if err != nil {
		return err
	}
	if alive {
		return fmt.Errorf("clean up container %q: %w", name, errRunning)
	}
	var failed []error
	if err := errors.Join(run.deleteByRuntime(ctx, name), run.poststop(name)); err != nil {
		failed = append(failed, fmt.Errorf("run poststop hooks: %w", err))
	}
	if err := l.unregister(ctx, run, name, bus); err != nil {
		failed = append(failed, fmt.Errorf("unregister %q: %w", name, err))
	}
	failed = append(failed, run.reconcile(name))
	for _, file := range []string{run.pid(), run.pending(), run.relay(), run.newRelay()} {
		failed = append(failed, remove(file))
	}
	failed = append(failed, l.removeOnce(name))
	return errors.Join(failed...)
}

// CleanupAll does so for every container that has a run-time directory and is
// not running, and removes the directory. systemd removes it with the unit, so
// there is something to do only after an accident: a unit that was changed or
// removed while it ran. It goes on after a failure and reports all of them.
func (l Launcher) CleanupAll(ctx context.Context, bus Unregistrar) error {
	entries, err := os.ReadDir(l.Host.RunRoot())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	var failed []error
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() || record.CheckName(name) != nil || inUse(name) {
			continue
		}
		err := l.Cleanup(ctx, name, bus)
		if err == nil {
			err = os.RemoveAll(l.Host.Run(name))
		}
		if err != nil && !errors.Is(err, errRunning) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// inUse reports whether the container's unit has a cgroup, in whatever slice:
// then it runs, or is about to.
func inUse(name string) bool {
	for _, slices := range []string{"*.slice", "*.slice/*.slice", "*.slice/*.slice/*.slice"} {
		if found, _ := filepath.Glob(filepath.Join(cgroupRoot, slices, name+".service")); len(found) > 0 {
			return true
		}
	}
	return false
}

func (l Launcher) unregister(ctx context.Context, run runDir, name string, bus Unregistrar) error {
	if bus == nil {
		return nil
	}
	unit := name + ".service"
	if d, err := open(l.Host, name); err == nil {
		if !d.rec.Atomic.Start.Register {
			return nil
		}
		unit = d.rec.Atomic.Start.Unit
	}
	if _, err := os.Stat(run.pending()); err == nil {
		return nil // never was registered
	}
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	err := bus.Unregister(ctx, name, unit)
	if errors.Is(err, machined.ErrUnavailable) || errors.Is(err, machined.ErrInvalidName) {
		return nil
	}
	return err
}

// poststop runs the hooks of a container that has any; libcontainer runs them
// when it destroys the container.
func (r runDir) poststop(name string) error {
	c, err := libcontainer.Load(r.state(), name)
	if err != nil {
		return nil //nolint:nilerr // never got so far that hooks apply
	}
	cfg := c.Config()
	if len(cfg.Hooks["poststop"]) == 0 {
		return nil
	}
	return destroy(c)
}
