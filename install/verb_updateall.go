// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// The words for what became of a container, or of an image, from the contract.
const (
	UpdatedNow = "Updated now"      // it is at the latest version since this command
	UpToDate   = "Updated"          // and was before
	Updatable  = "Update available" // a dry run found another version
	NotUpdated = "Not updated"      // there was no time to try
	Failed     = "Failed"           // it is at the version it was at
)

// Outcome is what UpdateAll did with one container.
type Outcome struct {
	Name string
	// Before, After and Latest are image IDs: of the container before and
	// after, and of what the registry has. Unknown ones are empty.
	Before, After, Latest string
	Status                string
	// Err is why Status is Failed.
	Err error
}

// UpdateAll updates every container whose image is another one in its registry
// now, one after the other. A container that fails is no reason to leave out
// the others, and an image that was rolled back before is not tried again; what
// the options say of one image or its values has no effect.
func (a *Agent) UpdateAll(ctx context.Context, o UpdateOptions) ([]Outcome, error) {
	names, err := a.names()
	if err != nil {
		return nil, hint.Root(err)
	}
	o.Image, o.Set, o.Grants, o.Add, o.ForgetOptions = "", nil, nil, unitgen.Options{}, false
	o.unattended = true
	list := make([]Outcome, 0, len(names))
	for _, name := range names {
		list = append(list, a.updateOne(ctx, name, o))
	}
	return list, nil
}

func (a *Agent) updateOne(ctx context.Context, name string, o UpdateOptions) Outcome {
	out := Outcome{Name: name, Status: NotUpdated}
	rec, err := a.Record(name)
	if err == nil {
		out.Before, out.After = rec.Revision, rec.Revision
		if out.Err = ctx.Err(); out.Err != nil {
			return out
		}
		var res *Result
		if res, err = a.Update(ctx, name, o); err == nil {
			out.After, out.Latest, out.Status = res.Record.Revision, res.Record.Revision, UpdatedNow
			switch {
			case res.Present:
				out.Status = UpToDate
			case o.DryRun:
				out.After, out.Status = out.Before, Updatable
			}
			return out
		}
	}
	if errors.Is(err, ErrNotInstalled) { // uninstalled meanwhile
		return out
	}
	var tried *TriedError
	if errors.As(err, &tried) {
		out.Latest = tried.Record.Revision
	}
	out.Status, out.Err = Failed, fmt.Errorf("update %s: %w", name, err)
	return out
}

// TriedError is the failure of a deployment that was prepared.
type TriedError struct {
	Record *record.Record
	Err    error
}

func (e *TriedError) Error() string { return e.Err.Error() }
func (e *TriedError) Unwrap() error { return e.Err }
