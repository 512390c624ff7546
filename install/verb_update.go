// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// UpdateOptions are the options of Update.
type UpdateOptions struct {
	// Source names another image for the container (--rebase); an empty Image
	// means the one it has.
	Source
	// Set, Grants and Add are added to those of the container.
	Set    map[string]string
	Grants []string
	Add    unitgen.Options
	// DryRun prepares everything and changes nothing.
	DryRun bool
	// ForgetOptions drops what earlier commands have added (Add, not Set).
	ForgetOptions bool
	// unattended leaves out an image that was rolled back before.
	unattended bool
	Gate
}

// Gate says what the service must do for the new deployment to be kept.
type Gate struct {
	// Settle is how long it must stay up after it was ready, before it is
	// asked whether it is healthy.
	Settle time.Duration
	// Uncontrolled keeps the new deployment in any case.
	Uncontrolled bool
}

// Update replaces a container's deployment by a new one. All of it is prepared
// before the running service is touched. If the service ran and the new one
// does not pass the gate, the container is what it was before and the error is
// ErrRolledBack. If there is nothing new, Result.Present is set.
func (a *Agent) Update(ctx context.Context, name string, o UpdateOptions) (*Result, error) {
	from, done, err := a.installed(ctx, name)
	if err != nil {
		return nil, err
	}
	defer done()
	r := request{name: name, source: o.Source, from: from}
	if r.source.Image == "" {
		r.source.Image = from.rec.Image
		if from.rec.Atomic.Insecure {
			r.source.Image = "http:" + from.rec.Image
		}
	}
	r.set = merge(from.rec.Atomic.UserValues, o.Set)
	var before unitgen.Options
	if !o.ForgetOptions {
		before = optionsOf(from.rec)
	}
	r.add = addOptions(before, o.Add)
	r.grants = slices.Compact(slices.Sorted(slices.Values(slices.Concat(from.rec.Atomic.Grants, o.Grants))))
	txn, err := a.transaction(ctx)
	if err != nil {
		return nil, err
	}
	defer txn.Abort()
	p, err := a.prepare(ctx, txn, r)
	if err != nil {
		return nil, err
	}
	if sameDeployment(from.rec, p.d.rec) {
		return &Result{Name: name, Present: true, Record: from.rec}, nil
	}
	digest := p.d.rec.Atomic.ManifestDigest
	if o.unattended {
		if err := a.checkRejected(from, digest); err != nil {
			return nil, &TriedError{p.d.rec, err}
		}
	}
	a.sayDifference(from, p)
	if o.DryRun {
		return &Result{Name: name, Record: p.d.rec, Output: p.out}, nil
	}
	in := &intent.Intent{
		Verb: intent.Update, Name: name, From: from.gen, To: p.d.gen, Fresh: true,
		Settle: int(o.Settle / time.Second), Uncontrolled: o.Uncontrolled,
	}
	if err := a.replace(ctx, in, from, p); err != nil {
		if errors.Is(err, ErrRolledBack) && ctx.Err() == nil {
			a.reject(from, digest)
		}
		return nil, &TriedError{p.d.rec, err}
	}
	return &Result{Name: name, Record: p.d.rec, Output: p.out}, nil
}

// RollbackOptions are the options of Rollback.
type RollbackOptions struct {
	// To is the generation to go to; intent.None means the newest of the others.
	To int
	// DryRun finds it and changes nothing.
	DryRun bool
	Gate
}

// Rollback makes another deployment that is kept the current one.
func (a *Agent) Rollback(ctx context.Context, name string, o RollbackOptions) (*Result, error) {
	from, done, err := a.installed(ctx, name)
	if err != nil {
		return nil, err
	}
	defer done()
	gens, err := a.generations(name)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(gens), func(g int) bool { return g == from.gen })
	to := o.To
	if to == intent.None && len(others) > 0 {
		to = others[len(others)-1]
	}
	if !slices.Contains(others, to) {
		return nil, hint.New(fmt.Errorf("Cannot find a previous deployment to rollback located at %s", a.host.Current(name)), //nolint:staticcheck // the wording is part of the contract
			fmt.Sprintf("deployments of %s that are kept: %v, current: %d", name, gens, from.gen))
	}
	d, err := a.load(name, to)
	if err != nil {
		return nil, err
	}
	if o.DryRun {
		return &Result{Name: name, Record: d.rec}, nil
	}
	in := &intent.Intent{
		Verb: intent.Rollback, Name: name, From: from.gen, To: to,
		Settle: int(o.Settle / time.Second), Uncontrolled: o.Uncontrolled,
	}
	if err := a.replace(ctx, in, from, &prepared{d: d}); err != nil {
		return nil, err
	}
	return &Result{Name: name, Record: d.rec}, nil
}

// installed begins a change of a container that must be installed.
func (a *Agent) installed(ctx context.Context, name string) (*deployment, func(), error) {
	if err := record.CheckName(name); err != nil {
		return nil, nil, hint.New(err, "atomic containers list -a shows what is installed")
	}
	lock, err := a.begin(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	d, err := a.current(name)
	if err == nil && d == nil {
		err = notInstalled(name)
	}
	if err != nil {
		lock.Unlock()
		return nil, nil, err
	}
	return d, lock.Unlock, nil
}

// sameDeployment reports whether two records stand for the same thing.
func sameDeployment(a, b *record.Record) bool {
	return a.Atomic.ManifestDigest == b.Atomic.ManifestDigest && a.Image == b.Image && a.Atomic.Insecure == b.Atomic.Insecure &&
		maps.Equal(a.Atomic.UserValues, b.Atomic.UserValues) && slices.Equal(a.Atomic.Grants, b.Atomic.Grants) &&
		reflect.DeepEqual(a.Atomic.Options, b.Atomic.Options) && a.Atomic.Rootfs.Verify == b.Atomic.Rootfs.Verify
}

func merge(base, over map[string]string) map[string]string {
	m := maps.Clone(base)
	if m == nil {
		m = map[string]string{}
	}
	maps.Copy(m, over)
	return m
}
