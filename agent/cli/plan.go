// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"
)

func newPlanCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "plan", Short: "Look at how containers are started", Args: args(cobra.NoArgs)}
	cmd.AddCommand(&cobra.Command{
		Use: "show NAME", Short: "Show a container's compiled plan, a line for each step", Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error { return runPlanShow(g, a[0]) },
	})
	return cmd
}

func runPlanShow(g *globals, name string) error {
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return err
	}
	defer a.Close()
	p, err := a.Plan(name)
	if err != nil {
		return err
	}
	return p.Show(g.Out)
}
