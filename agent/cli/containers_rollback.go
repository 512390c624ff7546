// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
)

type containersRollbackOptions struct {
	gateOptions
	to     int
	dryRun bool
}

func newContainersRollbackCommand(g *globals) *cobra.Command {
	o := &containersRollbackOptions{}
	cmd := &cobra.Command{
		Use:   "rollback [OPTIONS] NAME",
		Short: "Take a container back to an earlier deployment",
		Args:  args(cobra.ExactArgs(1)),
		RunE:  func(cmd *cobra.Command, a []string) error { return runContainersRollback(cmd.Context(), g, o, a[0]) },
	}
	cmd.Flags().IntVar(&o.to, "to", -1, "the `DEPLOYMENT` to go to (default: the newest of the others)")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say which deployment it would be and change nothing")
	g.jsonFlag(cmd.Flags())
	o.flags(cmd.Flags())
	return cmd
}

func runContainersRollback(ctx context.Context, g *globals, o *containersRollbackOptions, name string) error {
	gate, err := o.gate()
	if err != nil {
		return err
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	res, err := a.Rollback(ctx, name, install.RollbackOptions{To: o.to, DryRun: o.dryRun, Gate: gate})
	if err != nil {
		return err
	}
	text := "Rolled %s back to %s (deployment %d)"
	if o.dryRun {
		text = "Would roll %s back to %s (deployment %d)"
	}
	d := doneTo(name, "rolled back", res.Record)
	d.DryRun = o.dryRun
	return g.result(d, text, name, res.Record.Image, res.Record.Atomic.Generation)
}
