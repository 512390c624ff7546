// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"
)

type stopOptions struct{ storage string }

func newStopCommand(g *globals) *cobra.Command {
	o := &stopOptions{}
	cmd := &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop a container",
		Long:  "Stop a container and wait until it is down. `systemctl stop NAME` does the same.",
		Args:  args(cobra.ExactArgs(1)),
		RunE:  func(cmd *cobra.Command, a []string) error { return runStop(cmd.Context(), g, o, a[0]) },
	}
	storageFlag(cmd.Flags(), &o.storage)
	g.jsonFlag(cmd.Flags())
	return cmd
}

func runStop(ctx context.Context, g *globals, o *stopOptions, name string) error {
	if err := checkStorage(o.storage); err != nil {
		return err
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	if err := a.Stop(ctx, name); err != nil {
		return err
	}
	return g.result(done{Name: name, Status: "stopped"}, "Stopped %s", name)
}
