// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

func newStoreCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "Look after the image store", Args: args(cobra.NoArgs)}
	cmd.AddCommand(newStoreDFCommand(g), newStoreFsckCommand(g), newStoreGCCommand(g), newStoreExportCommand(g))
	return cmd
}

// store opens the store of the host that the options name.
func (g *globals) store() (*store.Store, error) {
	c, err := conf.Load(g.host())
	if err != nil {
		return nil, err
	}
	return store.Open(g.host().Store(), store.Options{Verity: string(c.Store.Verity)})
}

func newStoreDFCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "df", Short: "Show what takes the space", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runStoreDF(cmd, g) },
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}

func runStoreDF(cmd *cobra.Command, g *globals) error {
	s, err := g.store()
	if err != nil {
		return err
	}
	u, err := s.Usage(cmd.Context())
	if err != nil {
		return err
	}
	if g.json {
		return printJSON(g, u)
	}
	rows := [][]string{{"CONTAINER", "IMAGE", "FILES", "SIZE", "OWN"}}
	for _, r := range u.Refs {
		rows = append(rows, []string{
			fmt.Sprintf("%s.%d", r.Name, r.Generation), r.Source, fmt.Sprint(r.Files), bytes(r.Bytes), bytes(r.Own),
		})
	}
	table(g, rows)
	fmt.Fprintf(g.Out, "%d objects, %s, %s free\n", u.Objects, bytes(u.Bytes), bytes(u.Free))
	return nil
}

type storeFsckOptions struct{ repair bool }

func newStoreFsckCommand(g *globals) *cobra.Command {
	o := &storeFsckOptions{}
	cmd := &cobra.Command{
		Use: "fsck [OPTIONS]", Short: "Check every object and every name", Args: args(cobra.NoArgs),
		Long: "Reads the whole store and reports what is damaged or missing, and which images bring it back.\n" +
			"Containers keep running. The exit code is 1 if something is wrong.",
		RunE: func(cmd *cobra.Command, _ []string) error { return runStoreFsck(cmd, g, o) },
	}
	cmd.Flags().BoolVar(&o.repair, "repair", false, "move damaged objects to quarantine and remove names that lead nowhere")
	g.jsonFlag(cmd.Flags())
	return cmd
}

func runStoreFsck(cmd *cobra.Command, g *globals, o *storeFsckOptions) error {
	s, err := g.store()
	if err != nil {
		return err
	}
	rep, err := s.Fsck(cmd.Context(), store.FsckOptions{Repair: o.repair})
	if err != nil {
		return err
	}
	if g.json {
		if err := printJSON(g, rep); err != nil {
			return err
		}
	} else {
		for _, p := range rep.Problems {
			state := ""
			if p.Repaired {
				state = " (repaired)"
			}
			fmt.Fprintf(g.Out, "%s: %s%s\n", p.What, p.Why, state)
		}
		for _, name := range rep.Pull {
			fmt.Fprintf(g.Out, "to bring back what is missing: atomic pull %s\n", name)
		}
		for _, name := range rep.Reinstall {
			fmt.Fprintf(g.Out, "container %s has lost its image: install it again\n", name)
		}
		fmt.Fprintf(g.Out, "%d objects, %s are as they should be\n", rep.Objects, bytes(rep.Bytes))
	}
	if rep.Clean() {
		return nil
	}
	err = fmt.Errorf("%d problems in the store", len(rep.Problems))
	if !o.repair {
		err = hint.New(err, "take the damaged parts out with: atomic store fsck --repair")
	}
	return err
}

func newStoreGCCommand(g *globals) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "gc [OPTIONS]", Short: "Remove what nothing needs any more", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runStoreGC(cmd.Context(), g, dryRun) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say how much it is and remove nothing")
	g.jsonFlag(cmd.Flags())
	return cmd
}

// runStoreGC removes what nothing names from the store and then, on the running
// host, what starts have left behind and no stop has taken away.
func runStoreGC(ctx context.Context, g *globals, dryRun bool) error {
	s, err := g.store()
	if err != nil {
		return err
	}
	if dryRun {
		res, err := s.Garbage(ctx)
		if err != nil {
			return err
		}
		return g.result(removed{"removed", true, res.Objects, res.Bytes}, "would remove %d objects, %s", res.Objects, bytes(res.Bytes))
	}
	res, err := s.GC(ctx)
	if err != nil {
		return err
	}
	err = g.result(removed{"removed", false, res.Objects, res.Bytes}, "removed %d objects, %s", res.Objects, bytes(res.Bytes))
	if g.root != "" || err != nil {
		return err
	}
	sweep := exec.CommandContext(ctx, paths.Launcher, "cleanup", "--all")
	sweep.Stdout, sweep.Stderr = g.talk(), g.Err
	if err := sweep.Run(); err != nil {
		return fmt.Errorf("sweep what starts have left: %w", err)
	}
	return nil
}

func newStoreExportCommand(g *globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "export [OPTIONS] CONTAINER", Short: "Write a container's root file system as a tar archive", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error { return runStoreExport(cmd, g, names[0], output) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` instead of standard output")
	g.jsonFlag(cmd.Flags())
	return cmd
}

func runStoreExport(cmd *cobra.Command, g *globals, name, output string) error {
	switch {
	case output == "" && g.json:
		return hint.New(&usageError{errors.New("standard output is the archive's, or --json's")}, "use -o FILE")
	case output == "" && isTerminal(g.Out):
		return hint.New(errors.New("an archive does not belong on a terminal"), "use -o FILE or a pipe")
	}
	s, err := g.store()
	if err != nil {
		return err
	}
	image, err := s.FindImage(name)
	if err != nil {
		return err
	}
	if output == "" {
		return s.Export(cmd.Context(), image, g.Out)
	}
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(s.Export(cmd.Context(), image, f), f.Close()); err != nil || !g.json {
		return err
	}
	return printJSON(g, struct {
		done
		Output string `json:"output"`
	}{done{Name: name, Status: "exported"}, output})
}
