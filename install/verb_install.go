// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"path/filepath"

	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// Options of Install.
type Options struct {
	Source
	// Name of the container; empty means the image's.
	Name string
	// Set are values for the templates, Grants permissions on the host.
	Set    map[string]string
	Grants []string
	// Add is what the administrator adds to what the image says.
	Add unitgen.Options
	// DryRun prepares everything and changes nothing.
	DryRun bool
}

// Result of Install and Update.
type Result struct {
	Name string
	// Present says that nothing was done because it was done before.
	Present bool
	Record  *record.Record
	// Output is what was rendered, for a dry run.
	Output *unitgen.Output
}

// Install installs a container. It is enabled but not started. If there is one
// of that name already, nothing happens and Result.Present is set.
func (a *Agent) Install(ctx context.Context, o Options) (*Result, error) {
	name, err := o.containerName()
	if err != nil {
		return nil, err
	}
	lock, err := a.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	switch d, err := a.current(name); {
	case err != nil:
		return nil, err
	case d != nil:
		return &Result{Name: name, Present: true, Record: d.rec}, nil
	}
	txn, err := a.transaction(ctx)
	if err != nil {
		return nil, err
	}
	defer txn.Abort()
	p, err := a.prepare(ctx, txn, request{name: name, source: o.Source, set: o.Set, add: addOptions(unitgen.Options{}, o.Add), grants: o.Grants})
	if err != nil {
		return nil, err
	}
	res := &Result{Name: name, Record: p.d.rec, Output: p.out}
	if o.DryRun {
		return res, nil
	}
	if err := a.install(ctx, p); err != nil {
		return nil, err
	}
	for _, f := range p.d.rec.InstalledFiles {
		a.say("Created file %s", f)
	}
	return res, nil
}

func (o *Options) containerName() (string, error) {
	n, err := image.ParseName(o.Image)
	if err != nil {
		return "", err
	}
	if o.Name == "" {
		return n.ContainerName()
	}
	return o.Name, hint.New(record.CheckName(o.Name), "choose another name with --name")
}

// install takes a prepared deployment to the host.
func (a *Agent) install(ctx context.Context, p *prepared) error {
	host, err := a.hostLock(ctx)
	if err != nil {
		return err
	}
	defer host.Unlock()

	// From here on the change is short and is not given up half way: ctx ends
	// only the waiting.
	ctx = context.WithoutCancel(ctx)
	in := &intent.Intent{Verb: intent.Install, Name: p.d.name, From: intent.None, To: p.d.gen, Fresh: true}
	steps, err := a.place(p, nil)
	if err == nil {
		in.Steps = steps
		err = intent.Write(a.host.Intents(), in)
	}
	if err != nil {
		// There is no intent: nothing but the directory has to go.
		if rerr := a.removeDeployment(p.d.name, p.d.gen); rerr != nil {
			a.log.Warn("remove unfinished deployment, ignoring", "err", rerr)
		}
		return unchangedHint(err)
	}
	if err := a.arriveAll(p, in); err != nil {
		p.txn.Abort()
		if uerr := a.takeBack(ctx, in, err); uerr != nil {
			return uerr
		}
		return unchangedHint(err)
	}
	host.Unlock()
	return a.decide(ctx, in, false)
}

// unchangedHint says, if there is nothing better to say, that an error has left
// nothing behind.
func unchangedHint(err error) error {
	if hint.Of(err) == "" {
		err = hint.Root(err)
	}
	if hint.Of(err) == "" {
		err = hint.New(err, "nothing was installed; the host is as it was")
	}
	return err
}

// arriveAll does everything up to and including the rename that decides.
func (a *Agent) arriveAll(p *prepared, in *intent.Intent) error {
	if err := p.publish(); err != nil {
		return err
	}
	if err := a.finish(p); err != nil {
		return err
	}
	if err := a.forward(in.Steps, p.d); err != nil {
		return err
	}
	return a.setCurrent(p.d.name, p.d.gen)
}

// tmpfilesFile returns the tmpfiles.d file on the host, or "" if the deployment
// has none.
func (d *deployment) tmpfilesFile() string {
	for _, u := range d.rec.Atomic.Units {
		if u.Path == tmpfilesPath(d.name) {
			return d.host.Path(u.Path)
		}
	}
	return ""
}

// mountUnit returns the name of a mount unit if that is what a step is about.
func mountUnit(s intent.Step) (name string, ok bool) {
	return filepath.Base(s.Path), filepath.Ext(s.Path) == ".mount"
}
