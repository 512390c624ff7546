// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"
)

type pullOptions struct {
	sourceOptions
	storage string
}

func newPullCommand(g *globals) *cobra.Command {
	o := &pullOptions{}
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] IMAGE",
		Short: "Fetch an image into the store",
		Args:  args(cobra.ExactArgs(1)),
		RunE:  func(cmd *cobra.Command, a []string) error { return runPull(cmd.Context(), g, o, a[0]) },
	}
	storageFlag(cmd.Flags(), &o.storage)
	cmd.Flags().StringP("type", "t", "", "accepted; every kind of image is fetched alike")
	g.jsonFlag(cmd.Flags())
	o.flags(cmd.Flags())
	return cmd
}

func runPull(ctx context.Context, g *globals, o *pullOptions, name string) error {
	if err := checkStorage(o.storage); err != nil {
		return err
	}
	src, err := o.source(g, name)
	if err != nil {
		return err
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	full, digest, err := a.Pull(ctx, src)
	if err != nil {
		return err
	}
	return g.result(done{Name: full, Status: "pulled", Digest: digest}, "Pulled %s@%s", full, digest)
}
