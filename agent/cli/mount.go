// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/internal/conf"
)

func newMountCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "mount IMAGE|CONTAINER DIR", Short: "Mount an image or a container's root file system read-only", Args: args(cobra.ExactArgs(2)),
		Long: "Mounts what an image or a container consists of on DIR, read-only and in no time, for looking at it\n" +
			"or for a scanner. CONTAINER is its name or, for an older generation, NAME.N.",
		RunE: func(cmd *cobra.Command, words []string) error { return runMount(cmd, g, words[0], words[1]) },
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}

// mounted is what mount and unmount say.
type mounted struct {
	done
	Target string `json:"target"`
}

func runMount(cmd *cobra.Command, g *globals, name, dir string) error {
	c, err := conf.Load(g.host())
	if err != nil {
		return err
	}
	s, err := g.store()
	if err != nil {
		return err
	}
	image, err := s.ImageOf(cmd.Context(), name)
	if err != nil {
		return err
	}
	if _, err := mount.Mount(mount.Options{StoreDir: s.Dir(), Image: image, Target: dir, Verity: string(c.Store.Verity)}); err != nil {
		return err
	}
	return g.jsonOnly(mounted{done{Name: name, Status: "mounted"}, dir})
}

func newUnmountCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "unmount DIR", Aliases: []string{"umount"}, Short: "Unmount what mount has mounted", Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, words []string) error {
			if err := mount.Unmount(words[0]); err != nil {
				return err
			}
			return g.jsonOnly(mounted{done{Name: words[0], Status: "unmounted"}, words[0]})
		},
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}
