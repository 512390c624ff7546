// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/internal/hint"
)

func runContainersUpdateAll(ctx context.Context, g *globals, o *containersUpdateOptions) error {
	gate, err := o.gate()
	if err != nil {
		return err
	}
	src, err := o.source(g, "")
	if err != nil {
		return err
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	list, err := a.UpdateAll(ctx, install.UpdateOptions{Source: src, Gate: gate, DryRun: o.dryRun})
	if err != nil {
		return err
	}
	if g.json {
		err = printJSON(g, outcomesJSON(list))
	} else if len(list) > 0 {
		containersSummary(g, list)
	}
	return errors.Join(err, report(g, list))
}

type outcomeJSON struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
	Latest string `json:"latest"`
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

func outcomesJSON(list []install.Outcome) []outcomeJSON {
	out := make([]outcomeJSON, len(list))
	for i, o := range list {
		out[i] = outcomeJSON{Name: o.Name, Before: o.Before, After: o.After, Latest: o.Latest, Status: o.Status}
		if o.Err != nil {
			out[i].Error = o.Err.Error()
		}
	}
	return out
}

// containersSummary prints the table of the contract.
func containersSummary(g *globals, list []install.Outcome) {
	rows := [][]string{{"Container", "Image ID before update", "Image ID after update", "Latest image ID", "Status"}}
	short := func(id string) string { return id[:min(len(id), 32)] }
	for _, o := range list {
		rows = append(rows, []string{o.Name, short(o.Before), short(o.After), short(o.Latest), o.Status})
	}
	fmt.Fprintln(g.Out, "\nSUMMARY")
	table(g, rows)
}

// report prints why containers could not be updated.
func report(g *globals, list []install.Outcome) error {
	failed := 0
	for _, o := range list {
		if o.Err == nil {
			continue
		}
		failed++
		hint.Print(g.Err, o.Err)
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d of %d containers were not updated", errPartial, failed, len(list))
}
