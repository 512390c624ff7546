// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// newSettleCommand is for atomic-settle.service, at boot.
func newSettleCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:    "settle",
		Short:  "Complete or undo changes that were interrupted",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE:   func(cmd *cobra.Command, _ []string) error { return runSettle(cmd.Context(), g) },
	}
}

func runSettle(ctx context.Context, g *globals) error {
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	return a.Settle(ctx)
}
