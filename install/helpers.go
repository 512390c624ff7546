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
	"github.com/atomic-agent/atomic/unitgen"
)

// stopHelpers ends the login bus and the health checks of a container whose
// units are about to go or have changed; its next start brings them back.
func (a *Agent) stopHelpers(ctx context.Context, in *intent.Intent) error {
	for _, unit := range []string{unitgen.BusSocketName(in.Name), unitgen.HealthTimerName(in.Name)} {
		file := filepath.Join(paths.Host{}.Units(), unit)
		for _, s := range in.Steps {
			if s.Path != file || s.Before == s.After {
				continue
			}
			if err := a.sd.Stop(ctx, unit); err != nil {
				return err
			}
			if unit == unitgen.HealthTimerName(in.Name) {
				a.forgetFailures(ctx, unit, unitgen.HealthServiceName(in.Name))
			}
		}
	}
	return nil
}

// forgetFailures makes systemd forget that units have failed, once that says
// nothing any more.
func (a *Agent) forgetFailures(ctx context.Context, units ...string) {
	for _, unit := range units {
		if err := a.sd.ResetFailed(ctx, unit); err != nil {
			a.log.Debug("reset unit, ignoring", "unit", unit, "err", err)
		}
	}
}

// removeHelpers ends them for a container that goes away, with the directory of
// the bus.
func (a *Agent) removeHelpers(ctx context.Context, in *intent.Intent) error {
	if err := a.stopHelpers(ctx, in); err != nil {
		return err
	}
	a.forgetFailures(ctx, unitgen.BusSocketName(in.Name))
	// A socket that was stopped while it was masked is still there.
	for _, path := range []string{a.host.BusSocket(in.Name), a.host.Bus(in.Name), a.host.Control(in.Name)} {
		if err := os.Remove(path); err != nil && !gone(err) && !errors.Is(err, syscall.ENOTEMPTY) {
			return fmt.Errorf("remove the login bus: %w", err)
		}
	}
	return nil
}
