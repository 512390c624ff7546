// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/internal/version"
)

// newVersionCommand prints the program's version or, as in the original, those
// of images.
func newVersionCommand(g *globals) *cobra.Command {
	cmd := newImagesVersionCommand(g)
	ofImages := cmd.RunE
	cmd.Use, cmd.Short, cmd.Args = "version [IMAGE...]", "Print the version of atomic, or those of images in the store", nil
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if len(names) > 0 {
			return ofImages(cmd, names)
		}
		return g.result(map[string]string{"version": version.Version}, "%s", version.Version)
	}
	return cmd
}
