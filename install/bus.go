// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/internal/paths"
)

// The units behind a container's login bus.
func busSocket(name string) string  { return name + "-bus.socket" }
func busService(name string) string { return name + "-bus@.service" }

// stopBus ends the login bus of a container whose units are about to go or have
// changed; the next start of the container brings it back.
func (a *Agent) stopBus(ctx context.Context, in *intent.Intent) error {
	file := filepath.Join(paths.Host{}.Units(), busSocket(in.Name))
	for _, s := range in.Steps {
		if s.Path == file && s.Before != s.After {
			return a.sd.Stop(ctx, busSocket(in.Name))
		}
	}
	return nil
}

// removeBus ends the login bus of a container that goes away, with its
// directory.
func (a *Agent) removeBus(ctx context.Context, in *intent.Intent) error {
	if err := a.stopBus(ctx, in); err != nil {
		return err
	}
	if err := a.sd.ResetFailed(ctx, busSocket(in.Name)); err != nil {
		a.log.Debug("reset unit, ignoring", "unit", busSocket(in.Name), "err", err)
	}
	dir := a.host.Bus(in.Name)
	// A socket that was stopped while it was masked is still there.
	for _, path := range []string{filepath.Join(dir, "system_bus_socket"), dir, a.host.Control(in.Name)} {
		if err := os.Remove(path); err != nil && !gone(err) && !errors.Is(err, syscall.ENOTEMPTY) {
			return fmt.Errorf("remove the login bus: %w", err)
		}
	}
	return nil
}
