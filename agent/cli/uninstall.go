// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

type uninstallOptions struct{ dryRun bool }

func newUninstallCommand(g *globals) *cobra.Command {
	o := &uninstallOptions{}
	cmd := &cobra.Command{
		Use:   "uninstall NAME",
		Short: "Stop a container and remove it from the host",
		Long: "Stop a container and remove everything that installing it brought to the host.\n" +
			"Its data stays, and so do host files that were modified since.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return runUninstall(cmd.Context(), g, o, a[0]) },
	}
	cmd.Flags().BoolP("force", "f", false, "accepted; removing needs no force")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "list what would be removed and change nothing")
	g.jsonFlag(cmd.Flags())
	return cmd
}

func runUninstall(ctx context.Context, g *globals, o *uninstallOptions, name string) error {
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	if o.dryRun {
		files, err := a.UninstallFiles(ctx, name)
		if err != nil {
			return err
		}
		if !g.json {
			for _, f := range files {
				fmt.Fprintln(g.Out, f)
			}
			return nil
		}
		return printJSON(g, struct {
			done
			Files []string `json:"files"`
		}{done{Name: name, Status: uninstalled, DryRun: true}, files})
	}
	if err := a.Uninstall(ctx, name); err != nil {
		return err
	}
	return g.result(done{Name: name, Status: uninstalled}, "Uninstalled %s", name)
}
