// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/internal/atomicfile"
	"github.com/atomic-agent/atomic/internal/hint"
)

// settle finishes what an earlier command began with a container and did not
// end, because it was killed or the power went. The caller holds the
// container's lock.
func (a *Agent) settle(ctx context.Context, name string) error {
	in, err := intent.Read(a.host.Intents(), name)
	if err != nil || in == nil {
		return err
	}
	host, err := a.hostLock(ctx)
	if err != nil {
		return err
	}
	defer host.Unlock()
	asked := ctx
	ctx = context.WithoutCancel(ctx)
	now, err := a.currentGeneration(name)
	if err != nil {
		return err
	}
	if in.Boot != bootID() {
		// Nothing runs any more that ran then; what is enabled is to run.
		in.Active = in.Active && in.Enabled
	}
	a.log.Debug("settle", "container", name, "verb", in.Verb, "from", in.From, "to", in.To, "now", now)
	switch {
	case in.Verb == intent.Uninstall:
		err = a.completeUninstall(ctx, in)
	case now == in.To:
		host.Unlock()
		err = a.decide(asked, in, true)
	default:
		err = a.undo(ctx, in)
	}
	if err != nil {
		return hint.New(fmt.Errorf("finish the interrupted %s of %s: %w", in.Verb, name, err), "remove the cause and run the command again")
	}
	return nil
}

// settleOthers settles and sweeps the containers that nobody works on and says
// which could not be settled. That is no reason for a command to fail that is
// about another container.
func (a *Agent) settleOthers(ctx context.Context, mine string) error {
	names, err := intent.List(a.host.Intents())
	if err != nil {
		return err
	}
	places, err := a.places()
	if err != nil {
		return err
	}
	for _, p := range places {
		if left, err := a.leftover(p.name, p.gen); err == nil && left {
			names = append(names, p.name)
		}
	}
	slices.Sort(names)
	var failed []error
	for _, name := range slices.Compact(names) {
		if name == mine {
			continue
		}
		lock, err := a.lock(name)
		if err != nil {
			continue // its owner is at work
		}
		err = a.settle(ctx, name)
		if err == nil {
			err = a.sweep(ctx, name)
		}
		failed = append(failed, err)
		lock.Unlock()
	}
	return errors.Join(failed...)
}

// Settle settles every container that nobody works on.
func (a *Agent) Settle(ctx context.Context) error { return a.settleOthers(ctx, "") }

// decide completes a change whose files are in place, or else undoes all of it.
// ctx ends only the waiting for the service to prove itself. resumed says that
// another command began the change. The caller does not hold the host lock.
func (a *Agent) decide(ctx context.Context, in *intent.Intent, resumed bool) error {
	down, err := a.complete(ctx, in, resumed)
	if err == nil {
		return down
	}
	ctx = context.WithoutCancel(ctx)
	host, lerr := a.hostLock(ctx)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	defer host.Unlock()
	if uerr := a.takeBack(ctx, in, err); uerr != nil {
		return uerr
	}
	err = fmt.Errorf("%w: %w", ErrRolledBack, err)
	if in.From == intent.None {
		return err
	}
	return hint.New(err, fmt.Sprintf("%s is at deployment %d as before; journalctl -u %s.service says why %d did not come up", in.Name, in.From, in.Name, in.To))
}

// sweep removes directories of a container that are no deployments. There is no
// intent any more.
func (a *Agent) sweep(ctx context.Context, name string) error {
	gens, err := a.generations(name)
	if err != nil {
		return err
	}
	for _, gen := range gens {
		left, err := a.leftover(name, gen)
		if err == nil && left {
			err = a.dropDeployment(ctx, name, gen)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// complete does what is left of a change that is decided. It is idempotent.
// down is why the service is not up, if the change is complete nevertheless.
func (a *Agent) complete(ctx context.Context, in *intent.Intent, resumed bool) (down, err error) {
	asked := ctx
	ctx = context.WithoutCancel(ctx)
	d, err := a.load(in.Name, in.To)
	if err != nil {
		return nil, err
	}
	if resumed || in.Verb == intent.Install {
		if err := a.forward(in.Steps, d); err != nil {
			return nil, err
		}
		a.createTmpfiles(ctx, d)
	}
	if resumed {
		if err := a.sd.Reload(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.stopHelpers(ctx, in); err != nil {
		return nil, err
	}
	if in.Active && d.rec.HasContainerService {
		if down = a.bringUp(asked, ctx, in, d); down != nil && !in.Uncontrolled {
			return nil, down
		}
	}
	if err := a.enableAgain(ctx, in, d, resumed); err != nil {
		return nil, err
	}
	if err := a.sd.Reload(ctx); err != nil {
		return nil, err
	}
	a.prune(ctx, in)
	return down, intent.Remove(a.host.Intents(), in.Name)
}

// enableAgain makes the unit start at boot, as its [Install] section says, if
// that is new.
func (a *Agent) enableAgain(ctx context.Context, in *intent.Intent, d *deployment, resumed bool) error {
	if !d.rec.HasContainerService {
		return nil
	}
	service := d.rec.Atomic.Start.Unit
	if in.Verb == intent.Install {
		return a.sd.Enable(ctx, service)
	}
	if !in.Enabled || !resumed && a.sameInstall(in, d) {
		return nil
	}
	return errors.Join(a.sd.Disable(ctx, service), a.sd.Enable(ctx, service))
}

func (a *Agent) sameInstall(in *intent.Intent, to *deployment) bool {
	from, err := a.load(in.Name, in.From)
	if err != nil {
		return false
	}
	was, ok1 := from.settings(installSetting)
	will, ok2 := to.settings(installSetting)
	return ok1 && ok2 && slices.Equal(was, will)
}

// start starts a service that a change of ours stopped; its start limit is for
// failures, not for changes.
func (a *Agent) start(ctx context.Context, unit string) error {
	a.forgetFailures(ctx, unit)
	return a.sd.Start(ctx, unit)
}

// takeBack undoes a change because of err. Its own error has both causes.
func (a *Agent) takeBack(ctx context.Context, in *intent.Intent, err error) error {
	if uerr := a.undo(ctx, in); uerr != nil {
		return hint.New(fmt.Errorf("%w; undoing it: %w", err, uerr), "the next atomic command tries again to undo it")
	}
	return nil
}

// undo takes the host back to what it was before a change that is not decided.
// It is idempotent.
func (a *Agent) undo(ctx context.Context, in *intent.Intent) error {
	var from *deployment
	now, err := a.currentGeneration(in.Name)
	if err != nil {
		return err
	}
	if now == in.To && now != intent.None {
		// What runs, if anything does, is the new deployment.
		a.stopQuietly(ctx, in.Name+".service")
	}
	if in.From != intent.None {
		if from, err = a.load(in.Name, in.From); err != nil {
			return err
		}
		if err := a.setCurrentIf(in.Name, in.From); err != nil {
			return err
		}
	} else if err := atomicfile.Remove(a.host.Current(in.Name)); err != nil {
		return err
	}
	if err := a.backward(in.Steps, from); err != nil {
		return err
	}
	if err := errors.Join(a.sd.Reload(ctx), a.stopHelpers(ctx, in)); err != nil {
		return err
	}
	// Not before: stopping a mount stops the service whose unit requires it.
	for _, s := range in.Steps {
		if unit, ok := mountUnit(s); ok && s.Before == "" {
			a.stopQuietly(ctx, unit)
		}
	}
	if in.Fresh {
		if err := a.dropDeployment(ctx, in.Name, in.To); err != nil {
			return err
		}
	}
	if from != nil && from.rec.HasContainerService {
		if in.Enabled {
			if err := errors.Join(a.sd.Disable(ctx, from.rec.Atomic.Start.Unit), a.sd.Enable(ctx, from.rec.Atomic.Start.Unit), a.sd.Reload(ctx)); err != nil {
				return err
			}
		}
		if in.Active {
			// The files are back; what keeps the service from starting now is
			// no business of this change.
			if err := a.startAgain(ctx, in, from.rec.Atomic.Start.Unit); err != nil {
				a.say("Warning: %v", err)
			}
		}
	}
	return intent.Remove(a.host.Intents(), in.Name)
}

func (a *Agent) setCurrentIf(name string, gen int) error {
	if now, err := a.currentGeneration(name); err == nil && now == gen {
		return nil
	}
	return a.setCurrent(name, gen)
}

// startAgain starts the service and what stopped with it. That one of those
// does not come up is for the administrator to know; it decides nothing.
func (a *Agent) startAgain(ctx context.Context, in *intent.Intent, unit string) error {
	if err := a.start(ctx, unit); err != nil {
		return err
	}
	for _, dependent := range in.Dependents {
		if err := a.start(ctx, dependent); err != nil {
			a.say("Warning: %v", err)
		}
	}
	return nil
}

func (a *Agent) stopQuietly(ctx context.Context, unit string) {
	if err := a.sd.Stop(ctx, unit); err != nil {
		a.log.Warn("stop unit, ignoring", "unit", unit, "err", err)
	}
}

// prune removes the generations beyond those that are kept. A failure is no
// reason to report the change as failed.
func (a *Agent) prune(ctx context.Context, in *intent.Intent) {
	gens, err := a.generations(in.Name)
	if err != nil {
		a.log.Warn("list generations, ignoring", "err", err)
		return
	}
	others := slices.DeleteFunc(gens, func(g int) bool { return g == in.To || g == in.From })
	keep := max(a.conf.Install.Keep-2, 0) // To and From are kept
	for len(others) > keep {
		if err := a.dropDeployment(ctx, in.Name, others[0]); err != nil {
			a.log.Warn("remove old deployment, ignoring", "err", err)
		}
		others = others[1:]
	}
}

// bootID identifies this boot of the host, "" if the kernel does not say.
func bootID() string { return strings.TrimSpace(content("/proc/sys/kernel/random/boot_id")) }
