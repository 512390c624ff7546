// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/internal/conf"
)

func newMountCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "mount IMAGE|CONTAINER DIR", Short: "Mount an image or a container's root file system read-only", Args: args(cobra.ExactArgs(2)),
		Long: "Mounts what an image or a container consists of on DIR, read-only and in no time, for looking at it\n" +
			"or for a scanner. CONTAINER is its name or, for an older generation, NAME.N.",
		RunE: func(cmd *cobra.Command, words []string) error { return runMount(cmd, g, words[0], words[1]) },
	}
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
	_, err = mount.Mount(mount.Options{StoreDir: s.Dir(), Image: image, Target: dir, Verity: string(c.Store.Verity)})
	return err
}

func newUnmountCommand(*globals) *cobra.Command {
	return &cobra.Command{
		Use: "unmount DIR", Aliases: []string{"umount"}, Short: "Unmount what mount has mounted", Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, words []string) error { return mount.Unmount(words[0]) },
	}
}

func newDiffCommand(g *globals) *cobra.Command {
	var asJSON, meta bool
	cmd := &cobra.Command{
		Use: "diff [OPTIONS] A B", Short: "Compare the files of two images or containers", Args: args(cobra.ExactArgs(2)),
		Long: "Lists the files that are only in B (+), only in A (-), or different (M, and in what).\n" +
			"The exit code is 1 if there are any.",
		RunE: func(cmd *cobra.Command, words []string) error {
			return runDiff(cmd, g, words[0], words[1], meta, asJSON)
		},
	}
	cmd.Flags().BoolVarP(&meta, "metadata", "m", false, "list files that differ in nothing but their time, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runDiff(cmd *cobra.Command, g *globals, a, b string, meta, asJSON bool) error {
	s, err := g.store()
	if err != nil {
		return err
	}
	changes := []store.Change{}
	all, err := diff(cmd, s, a, b)
	if err != nil {
		return err
	}
	for _, c := range all {
		if meta || len(c.What) != 1 || c.What[0] != "time" {
			changes = append(changes, c)
		}
	}
	if asJSON {
		if err := printJSON(g, changes); err != nil {
			return err
		}
	} else {
		mark := map[string]string{"added": "+", "removed": "-", "changed": "M"}
		for _, c := range changes {
			what := ""
			if len(c.What) > 0 {
				what = " (" + strings.Join(c.What, ", ") + ")"
			}
			fmt.Fprintf(g.Out, "%s %q%s\n", mark[c.Kind], c.Path, what)
		}
	}
	if len(changes) > 0 {
		return errSilent
	}
	return nil
}

func diff(cmd *cobra.Command, s *store.Store, a, b string) ([]store.Change, error) {
	imageA, err := s.ImageOf(cmd.Context(), a)
	if err != nil {
		return nil, err
	}
	imageB, err := s.ImageOf(cmd.Context(), b)
	if err != nil {
		return nil, err
	}
	treeA, err := s.ReadTree(cmd.Context(), imageA)
	if err != nil {
		return nil, err
	}
	treeB, err := s.ReadTree(cmd.Context(), imageB)
	if err != nil {
		return nil, err
	}
	return store.Diff(treeA, treeB), nil
}
