// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/systemd"
	"github.com/atomic-agent/atomic/internal/paths"
)

// gateStep is how often the gate looks at the service and asks it whether it
// is healthy.
const gateStep = 250 * time.Millisecond

// bringUp starts the service and what stopped with it, and waits until it has
// proved itself. asked ends the waiting, which is a failure.
func (a *Agent) bringUp(asked, ctx context.Context, in *intent.Intent, d *deployment) error {
	if err := a.startAgain(ctx, in, d.rec.Atomic.Start.Unit); err != nil {
		return err
	}
	if !a.sd.Live() || in.Boot != bootID() {
		return nil // nobody waits for a service that starts with the host
	}
	g := &gate{a: a, unit: d.rec.Atomic.Start.Unit, name: in.Name}
	var err error
	if g.first, err = a.sd.Run(ctx, g.unit); err != nil {
		return err
	}
	if err := g.settle(asked, time.Duration(in.Settle)*time.Second); err != nil {
		return err
	}
	if h := d.rec.Atomic.Start.Health; h != nil {
		return g.healthy(asked, h)
	}
	return nil
}

// gate watches one start of a service.
type gate struct {
	a          *Agent
	unit, name string
	first      systemd.Run
}

// up reports whether the service still is what was started. A service that
// has done its work and ended well is done.
func (g *gate) up(ctx context.Context) (done bool, err error) {
	now, err := g.a.sd.Run(context.WithoutCancel(ctx), g.unit)
	switch {
	case err != nil:
		return false, err
	case ctx.Err() != nil:
		return false, fmt.Errorf("wait for %s: %w", g.unit, ctx.Err())
	case now.Active == "inactive" && now.Result == "success":
		return true, nil
	case now.Invocation != g.first.Invocation || now.Active != "active" && now.Active != "reloading":
		return false, fmt.Errorf("%s did not stay up: %s", g.unit, now)
	}
	return false, nil
}

// settle waits while the service stays up.
func (g *gate) settle(ctx context.Context, d time.Duration) error {
	timer, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	tick := time.NewTicker(gateStep)
	defer tick.Stop()
	for {
		done, err := g.up(ctx)
		if done || err != nil || timer.Err() != nil {
			return err
		}
		select {
		case <-timer.Done():
		case <-tick.C:
		}
	}
}

// healthy asks the service until it is healthy, as long as its image says that
// it may need.
func (g *gate) healthy(ctx context.Context, h *record.Health) error {
	patience := time.After(h.Patience())
	tick := time.NewTicker(gateStep)
	defer tick.Stop()
	for {
		done, err := g.up(ctx)
		if done || err != nil {
			return err
		}
		failure := g.ask(ctx, h)
		if failure == nil {
			return nil
		}
		select {
		case <-patience:
			return fmt.Errorf("%s is not healthy: %w", g.unit, failure)
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// ask has the launcher run the health check once, in the container.
func (g *gate) ask(ctx context.Context, h *record.Health) error {
	// The launcher keeps the time itself.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout)*time.Millisecond+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, paths.Launcher, "health", "--once", g.name)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if said := strings.TrimSpace(string(out)); err != nil && said != "" {
		return errors.New(said)
	}
	return err
}
