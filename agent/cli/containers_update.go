// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// gateOptions say what a service must do for a new deployment to be kept.
type gateOptions struct {
	settle     int
	controlled bool
}

func (o *gateOptions) flags(f *pflag.FlagSet) {
	f.IntVar(&o.settle, "settle", 0, "take the change back if the service does not stay up for `SECONDS`")
	f.BoolVar(&o.controlled, "controlled", true, "take the change back if the service does not come up")
}

func (o *gateOptions) gate() (install.Gate, error) {
	g := install.Gate{Settle: time.Duration(o.settle) * time.Second, Uncontrolled: !o.controlled}
	if o.settle < 0 || o.settle > 3600 {
		return g, hint.New(fmt.Errorf("--settle=%d is not a number of seconds up to 3600", o.settle), "for example --settle 10")
	}
	return g, nil
}

type containersUpdateOptions struct {
	fetchOptions
	gateOptions
	all    bool
	rebase string
	set    []string
	grants []string
	add    unitgen.Options
	forget bool
	dryRun bool
}

func newContainersUpdateCommand(g *globals) *cobra.Command {
	return containersUpdateCommand(g, &containersUpdateOptions{})
}

func containersUpdateCommand(g *globals, o *containersUpdateOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] NAME | --all",
		Short: "Update a container to what its image is now",
		Long: "Fetch what the container's image is now, prepare a new deployment completely, and\n" +
			"put it in the place of the old one. A service that ran is started again; if it does\n" +
			"not come up, the container is taken back to what it was.",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			one := hasOptionsForOne(cmd)
			switch {
			case o.all && (len(a) > 0 || one):
				return hint.New(fmt.Errorf("--all excludes a name and --%s", strings.Join(optionsForOne, ", --")), "it updates every container to what its own image is now")
			case o.all:
				return runContainersUpdateAll(cmd.Context(), g, o)
			case len(a) == 0:
				return hint.New(errors.New("no container is named"), "name one, or update all of them with --all")
			}
			return runContainersUpdate(cmd.Context(), g, o, a[0])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "update every container")
	g.jsonFlag(f)
	f.StringVar(&o.rebase, "rebase", "", "continue with another `IMAGE`")
	f.StringArrayVar(&o.set, "set", nil, "give a template variable another value, `NAME=VALUE`; can be repeated")
	f.StringArrayVar(&o.grants, "grant", nil, "allow the container another `PERMISSION` on the host; can be repeated")
	additionFlags(f, &o.add)
	f.BoolVar(&o.forget, "forget-options", false, "drop --env, --volume, --publish and --property of earlier commands")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what the container would be and change nothing")
	o.fetchOptions.flags(f, install.Always)
	o.gateOptions.flags(f)
	return cmd
}

// optionsForOne are the options that make sense for one container only.
var optionsForOne = []string{"set", "rebase", "grant", "env", "volume", "publish", "property", "init", "userns", "isolation", "runtime", "survive-soft-reboot", "health-on-failure", "forget-options"}

func hasOptionsForOne(cmd *cobra.Command) bool {
	return slices.ContainsFunc(optionsForOne, func(name string) bool { return cmd.Flags().Changed(name) })
}

func runContainersUpdate(ctx context.Context, g *globals, o *containersUpdateOptions, name string) error {
	set, err := install.ParseSet(o.set)
	if err != nil {
		return err
	}
	gate, err := o.gate()
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
		return a.Update(ctx, name, install.UpdateOptions{Source: src, Set: set, Grants: grants, Add: o.add, ForgetOptions: o.forget, DryRun: o.dryRun, Gate: gate})
	})
	switch {
	case err != nil:
		return err
	case res.Present:
		return g.result(doneTo(name, unchanged, res.Record), "Latest version already installed.")
	case o.dryRun:
		return display(g, res)
	}
	return g.result(doneTo(name, "updated", res.Record), "Updated %s to %s (deployment %d)", name, res.Record.Image, res.Record.Atomic.Generation)
}
