// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// Start starts a container and waits until it is up.
func (a *Agent) Start(ctx context.Context, name string) error {
	unit, err := a.service(name, "start")
	if err != nil {
		return err
	}
	return a.sd.Start(ctx, unit)
}

// Stop stops a container and waits until it is down.
func (a *Agent) Stop(ctx context.Context, name string) error {
	unit, err := a.service(name, "stop")
	if err != nil {
		return err
	}
	if err := a.sd.Stop(ctx, unit); err != nil {
		return err
	}
	a.forgetFailures(ctx, unitgen.HealthServiceName(name))
	return nil
}

// Running reports whether a container is up or on its way up.
func (a *Agent) Running(ctx context.Context, name string) (bool, error) {
	rec, err := a.Record(name)
	if err != nil || !rec.HasContainerService {
		return false, err
	}
	states, err := a.sd.States(ctx, []string{rec.Atomic.Start.Unit})
	return states[rec.Atomic.Start.Unit].Running(), err
}

func (a *Agent) service(name, verb string) (unit string, err error) {
	rec, err := a.Record(name)
	switch {
	case err != nil:
		return "", err
	case !rec.HasContainerService:
		return "", nothingTo(verb, name)
	case !a.sd.Live():
		return "", hint.New(fmt.Errorf("%s %s: the system does not run", verb, name), "leave out --root to work on this one")
	}
	return rec.Atomic.Start.Unit, nil
}

// Installed reports whether there is a container of that name, damaged or not.
func (a *Agent) Installed(name string) bool {
	if record.CheckName(name) != nil {
		return false
	}
	gen, err := a.currentGeneration(name)
	return err != nil || gen >= 0
}
