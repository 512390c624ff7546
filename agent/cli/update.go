// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/internal/hint"
)

// newUpdateCommand is the short form of both updates: of a container, or, as in
// the original, of an image.
func newUpdateCommand(g *globals) *cobra.Command {
	ofContainers := &containersUpdateOptions{}
	cmd := containersUpdateCommand(g, ofContainers)
	updateContainer := cmd.RunE
	cmd.Use, cmd.Short = "update [OPTIONS] CONTAINER|IMAGE", "Update a container, or fetch an image anew"
	cmd.Long = "Update the container of that name, as `atomic containers update` does. If there is\n" +
		"none, fetch the image of that name, as `atomic images update` does; --all does so\n" +
		"for all images."
	cmd.Args = args(cobra.MaximumNArgs(1))
	o := &imagesUpdateOptions{}
	f := cmd.Flags()
	f.Lookup("all").Usage = "fetch all images in the store anew"
	f.BoolVarP(&o.force, "force", "f", false, "not supported")
	storageFlag(f, &o.storage)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if len(names) == 1 {
			a, err := g.agent()
			if err != nil {
				return err
			}
			defer a.Close()
			if a.Installed(names[0]) {
				return updateContainer(cmd, names)
			}
		}
		if hasOptionsForOne(cmd) || cmd.Flags().Changed("dry-run") {
			return hint.New(&usageError{fmt.Errorf("--dry-run, --%s are for containers", strings.Join(optionsForOne, ", --"))}, "atomic containers list -a shows what is installed")
		}
		o.sourceOptions, o.all = ofContainers.sourceOptions, ofContainers.all
		return runImagesUpdate(cmd.Context(), g, o, names)
	}
	return cmd
}

// newRollbackCommand is the short form of `atomic containers rollback`.
func newRollbackCommand(g *globals) *cobra.Command { return newContainersRollbackCommand(g) }
