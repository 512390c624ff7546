// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/systemd"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen"
)

// replacement is a change from one deployment to another.
type replacement struct {
	a    *Agent
	in   *intent.Intent
	from *deployment
	to   *prepared
	// alike says that systemd may read the new unit while the old service
	// runs: it will be stopped as it was to be stopped.
	alike bool
	// touched says that the service was stopped.
	touched bool
}

// replace takes the host from one deployment to another. Whatever can be done
// while the old service runs is done then: systemd has read the new units and
// mounted the new root file system before the service is stopped. It is down
// for the host files that change, one rename, and its own stop and start.
func (a *Agent) replace(ctx context.Context, in *intent.Intent, from *deployment, p *prepared) error {
	host, err := a.hostLock(ctx)
	if err != nil {
		return err
	}
	defer host.Unlock()
	asked := ctx
	ctx = context.WithoutCancel(ctx)
	if err := a.plan(ctx, in, from, p); err != nil {
		return err
	}
	r := &replacement{a: a, in: in, from: from, to: p}
	if err := r.run(ctx); err != nil {
		if p.txn != nil {
			p.txn.Abort()
		}
		if uerr := a.takeBack(ctx, in, err); uerr != nil {
			return uerr
		}
		if r.touched {
			err = fmt.Errorf("%w: %w", ErrRolledBack, err)
		}
		return err
	}
	host.Unlock() // what is left concerns nothing that containers share
	if err := a.decide(asked, in, false); err != nil {
		return err
	}
	a.unmountOld(ctx, in)
	return nil
}

// plan writes the intent.
func (a *Agent) plan(ctx context.Context, in *intent.Intent, from *deployment, p *prepared) (err error) {
	if from.rec.HasContainerService {
		if err := a.serviceState(ctx, in, from.rec.Atomic.Start.Unit); err != nil {
			return err
		}
	}
	if in.Fresh {
		in.Steps, err = a.place(p, from)
	} else {
		in.Steps, err = a.steps(from, p.d)
	}
	if err == nil {
		err = intent.Write(a.host.Intents(), in)
	}
	if err != nil && in.Fresh {
		err = errors.Join(err, a.removeDeployment(p.d.name, p.d.gen))
	}
	return err
}

func (a *Agent) serviceState(ctx context.Context, in *intent.Intent, unit string) error {
	states, err := a.sd.States(ctx, []string{unit})
	if err != nil {
		return err
	}
	in.Boot, in.Active = bootID(), states[unit].Running()
	if in.Active {
		if in.Dependents, err = a.sd.Dependents(ctx, unit); err != nil {
			return err
		}
	}
	in.Enabled, err = a.sd.Enabled(ctx, unit)
	return err
}

// run does everything up to and including the rename that decides.
func (r *replacement) run(ctx context.Context) error {
	a, d := r.a, r.to.d
	if r.in.Fresh {
		if err := r.to.publish(); err != nil {
			return err
		}
		if err := a.finish(r.to); err != nil {
			return err
		}
	}
	r.alike = stopsAlike(r.from, d)
	if err := r.ahead(ctx); err != nil {
		return err
	}
	if r.in.Active {
		r.touched = true
		if err := a.sd.Stop(ctx, r.from.rec.Atomic.Start.Unit); err != nil {
			return err
		}
	}
	// While its unit still says what to remove with it.
	if err := a.stopHelpers(ctx, r.in); err != nil {
		return err
	}
	if err := a.forward(r.in.Steps, d); err != nil {
		return err
	}
	if err := a.setCurrent(r.in.Name, r.in.To); err != nil {
		return err
	}
	if !r.sameTmpfiles() {
		a.createTmpfiles(ctx, d)
	}
	if !r.alike {
		return a.sd.Reload(ctx)
	}
	return nil
}

// ahead does what the old service does not notice.
func (r *replacement) ahead(ctx context.Context) error {
	a, d := r.a, r.to.d
	if err := a.forward(earlySteps(r.in.Steps, r.alike), d); err != nil {
		return err
	}
	if err := a.sd.Reload(ctx); err != nil {
		return err
	}
	if r.sameTmpfiles() {
		a.createTmpfiles(ctx, d)
	}
	mount := d.rec.Atomic.Start.MountUnit
	if mount == "" {
		return nil
	}
	if err := a.sd.Start(ctx, mount); err != nil || r.in.Active {
		return err
	}
	return a.sd.Stop(ctx, mount) // it can be mounted, which is all there is to know
}

// sameTmpfiles reports whether both deployments have the same tmpfiles.d file,
// so that applying it changes nothing under the old service.
func (r *replacement) sameTmpfiles() bool {
	path := tmpfilesPath(r.in.Name)
	return r.from.sumOf(path) == r.to.d.sumOf(path)
}

// createTmpfiles makes what the deployment's tmpfiles.d file asks for.
func (a *Agent) createTmpfiles(ctx context.Context, d *deployment) {
	if file := d.tmpfilesFile(); file != "" {
		if err := a.sd.CreateTmpfiles(ctx, file); err != nil {
			a.say("Warning: %v", err)
		}
	}
}

// earlySteps are those that can be taken while the old service runs: the new
// mount unit, which it does not know, and all units if it will be stopped by
// the new ones as by its own.
func earlySteps(steps []intent.Step, alike bool) []intent.Step {
	units := paths.Host{}.Units()
	early := func(s intent.Step) bool {
		return s.Kind == intent.File && s.After != "" && isBelow(s.Path, units) && (alike || filepath.Ext(s.Path) == ".mount")
	}
	var list []intent.Step
	for _, s := range steps {
		parent := func(e intent.Step) bool { return early(e) && isBelow(e.Path, s.Path) }
		if early(s) || s.Kind == intent.Dir && s.After != "" && slices.ContainsFunc(steps, parent) {
			list = append(list, s)
		}
	}
	return list
}

// unmountOld stops the mount of the deployment that is no longer current. Its
// unit file is gone, but it is loaded as long as it is mounted.
func (a *Agent) unmountOld(ctx context.Context, in *intent.Intent) {
	for _, s := range in.Steps {
		if unit, ok := mountUnit(s); ok && s.After == "" {
			a.stopQuietly(ctx, unit)
		}
	}
}

// stopsAlike reports whether the units of two deployments say the same about
// how the service is stopped and what is removed then.
func stopsAlike(from, to *deployment) bool {
	was, ok1 := from.settings(stopSetting)
	will, ok2 := to.settings(stopSetting)
	return ok1 && ok2 && slices.Equal(was, will)
}

func stopSetting(section, key string) bool {
	if section != "Service" {
		return false
	}
	for _, prefix := range []string{"Exec", "Kill", "SendSIG", "FinalKillSignal", "RestartKillSignal", "Timeout", "PIDFile", "Type", "NotifyAccess"} {
		if strings.HasPrefix(key, prefix) && key != "ExecStart" {
			return true
		}
	}
	return strings.Contains(key, "Directory") && key != "WorkingDirectory"
}

func installSetting(section, _ string) bool { return section == "Install" }

// settings returns the assignments of a deployment's service unit and drop-in
// that match; ok is false if they cannot be read.
func (d *deployment) settings(match func(section, key string) bool) (list []string, ok bool) {
	if !d.rec.HasContainerService {
		return nil, false
	}
	for _, file := range []string{d.name + ".service", unitgen.DropInName(d.name)} {
		data, err := os.ReadFile(d.copyOf(filepath.Join(paths.Host{}.Units(), file)))
		if err != nil {
			return nil, false
		}
		options, err := systemd.Parse(data)
		if err != nil {
			return nil, false
		}
		for _, o := range options {
			if match(o.Section, o.Name) {
				list = append(list, o.Section+"."+o.Name+"="+o.Value)
			}
		}
	}
	return list, true
}
