// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCatCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cat NAME",
		Short: "Show the unit files of a container and where they come from",
		Args:  args(cobra.ExactArgs(1)),
		RunE:  func(_ *cobra.Command, a []string) error { return runCat(g, a[0]) },
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}

func runCat(g *globals, name string) error {
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return err
	}
	defer a.Close()
	files, err := a.UnitFiles(name)
	if err != nil {
		return err
	}
	if g.json {
		return printJSON(g, files)
	}
	for i, f := range files {
		if i > 0 {
			fmt.Fprintln(g.Out)
		}
		fmt.Fprintf(g.Out, "# %s (%s)\n%s", f.Path, f.Origin, f.Content)
	}
	return nil
}
