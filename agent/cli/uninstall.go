// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type uninstallOptions struct{ force bool }

func newUninstallCommand(g *globals) *cobra.Command {
	o := &uninstallOptions{}
	cmd := &cobra.Command{
		Use:   "uninstall NAME",
		Short: "Stop a container and remove it from the host",
		Long: "Stop a container and remove everything that installing it brought to the host.\n" +
			"Its data stays, and so do host files that were modified since.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return runUninstall(cmd.Context(), g, a[0]) },
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "accepted; removing needs no force")
	return cmd
}

func runUninstall(ctx context.Context, g *globals, name string) error {
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	if err := a.Uninstall(ctx, name); err != nil {
		return err
	}
	fmt.Fprintf(g.Out, "Uninstalled %s\n", name)
	return nil
}
