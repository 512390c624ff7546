// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/unitgen"
)

type containersUpdateOptions struct {
	sourceOptions
	rebase string
	set    []string
	grants []string
	add    unitgen.Options
	forget bool
}

func newContainersUpdateCommand(g *globals) *cobra.Command {
	o := &containersUpdateOptions{}
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] NAME",
		Short: "Update a container to what its image is now",
		Long: "Fetch what the container's image is now, prepare a new deployment completely, and\n" +
			"put it in the place of the old one. A service that ran is started again; if it does\n" +
			"not come up, the container is taken back to what it was.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return runContainersUpdate(cmd.Context(), g, o, a[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.rebase, "rebase", "", "continue with another `IMAGE`")
	f.StringArrayVar(&o.set, "set", nil, "give a template variable another value, `NAME=VALUE`; can be repeated")
	f.StringArrayVar(&o.grants, "grant", nil, "allow the container another `PERMISSION` on the host; can be repeated")
	additionFlags(f, &o.add)
	f.BoolVar(&o.forget, "forget-options", false, "drop --env, --volume, --publish and --property of earlier commands")
	o.flags(f)
	return cmd
}

func runContainersUpdate(ctx context.Context, g *globals, o *containersUpdateOptions, name string) error {
	set, err := install.ParseSet(o.set)
	if err != nil {
		return err
	}
	src, err := o.source(g, o.rebase)
	if err != nil {
		return err
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	res, err := g.withGrants(o.grants, func(grants []string) (*install.Result, error) {
		return a.Update(ctx, name, install.UpdateOptions{Source: src, Set: set, Grants: grants, Add: o.add, ForgetOptions: o.forget})
	})
	switch {
	case err != nil:
		return err
	case res.Present:
		fmt.Fprintln(g.Out, "Latest version already installed.")
	default:
		fmt.Fprintf(g.Out, "Updated %s to %s (deployment %d)\n", name, res.Record.Image, res.Record.Atomic.Generation)
	}
	return nil
}
