// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type containersRollbackOptions struct {
	gateOptions
	to int
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
	res, err := a.Rollback(ctx, name, o.to, gate)
	if err != nil {
		return err
	}
	fmt.Fprintf(g.Out, "Rolled %s back to %s (deployment %d)\n", name, res.Record.Image, res.Record.Atomic.Generation)
	return nil
}
