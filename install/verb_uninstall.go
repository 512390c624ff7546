// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/internal/atomicfile"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// Uninstall stops a container and removes everything that installing it
// brought to the host, except files that were modified since, and data. Once
// it has begun it is completed, by the next command if need be.
func (a *Agent) Uninstall(ctx context.Context, name string) error {
	d, done, err := a.installed(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	host, err := a.hostLock(ctx)
	if err != nil {
		return err
	}
	defer host.Unlock()
	steps, err := a.steps(d, nil)
	if err != nil {
		return err
	}
	in := &intent.Intent{Verb: intent.Uninstall, Name: name, From: d.gen, To: intent.None, Steps: steps}
	if err := intent.Write(a.host.Intents(), in); err != nil {
		return hint.Root(err)
	}
	return a.completeUninstall(context.WithoutCancel(ctx), in)
}

// UninstallFiles lists the files and directories of the host that Uninstall
// would remove now, deployments included; directories that others use too stay.
func (a *Agent) UninstallFiles(ctx context.Context, name string) ([]string, error) {
	d, done, err := a.installed(ctx, name)
	if err != nil {
		return nil, err
	}
	defer done()
	steps, err := a.steps(d, nil)
	if err != nil {
		return nil, err
	}
	files := make([]string, len(steps), len(steps)+1)
	for i, s := range steps {
		files[i] = s.Path
	}
	gens, err := a.generations(name)
	if err != nil {
		return nil, err
	}
	bare := paths.Host{}
	files = append(files, bare.Current(name))
	for _, gen := range gens {
		files = append(files, bare.Deployment(name, gen))
	}
	return files, nil
}

// completeUninstall needs nothing but the intent: the deployment may be gone.
func (a *Agent) completeUninstall(ctx context.Context, in *intent.Intent) error {
	unit := in.Name + ".service"
	bare := paths.Host{}
	has := func(path string) bool {
		return slices.ContainsFunc(in.Steps, func(s intent.Step) bool { return s.Path == path })
	}
	if has(filepath.Join(bare.Units(), unit)) {
		if err := errors.Join(a.sd.Disable(ctx, unit), a.sd.Stop(ctx, unit)); err != nil {
			return err
		}
	}
	units := []string{unit}
	for _, s := range in.Steps {
		m, ok := mountUnit(s)
		if !ok {
			continue
		}
		if err := a.sd.Stop(ctx, m); err != nil {
			return err
		}
		units = append(units, m)
	}
	// Without its root file system nobody can start it meanwhile, and its sockets.
	if err := a.removeHelpers(ctx, in); err != nil {
		return err
	}
	if has(tmpfilesPath(in.Name)) {
		file := a.host.Path(tmpfilesPath(in.Name))
		if kind, _, err := probe(file); err == nil && kind == intent.File {
			if err := a.sd.RemoveTmpfiles(ctx, file); err != nil {
				a.say("Warning: %v", err)
			}
		}
	}
	if err := a.forward(in.Steps, nil); err != nil {
		return err
	}
	if err := atomicfile.Remove(a.host.Current(in.Name)); err != nil {
		return err
	}
	gens, err := a.generations(in.Name)
	if err != nil {
		return err
	}
	for _, gen := range gens {
		if err := a.dropDeployment(ctx, in.Name, gen); err != nil {
			return err
		}
	}
	if err := a.sd.Reload(ctx); err != nil {
		return err
	}
	a.forgetFailures(ctx, units...)
	return intent.Remove(a.host.Intents(), in.Name)
}
