// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
)

type containersDeleteOptions struct {
	all, dryRun bool
	storage     string
}

func newContainersDeleteCommand(g *globals) *cobra.Command {
	o := &containersDeleteOptions{}
	cmd := &cobra.Command{
		Use:   "delete [OPTIONS] NAME...",
		Short: "Uninstall containers",
		Long:  "List the containers, ask, and uninstall them as `atomic uninstall` does.",
		RunE:  func(cmd *cobra.Command, a []string) error { return runContainersDelete(cmd.Context(), g, o, a) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "all containers")
	f.BoolP("force", "f", false, "accepted; removing needs no force")
	f.BoolVar(&o.dryRun, "dry-run", false, "list them only")
	g.jsonFlag(f)
	storageFlag(f, &o.storage)
	return cmd
}

func runContainersDelete(ctx context.Context, g *globals, o *containersDeleteOptions, names []string) error {
	if err := checkStorage(o.storage); err != nil {
		return err
	}
	if o.all == (len(names) > 0) {
		return errors.New("You must select --all or provide a list of containers to delete.") //nolint:staticcheck,revive // the wording is part of the contract
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	list, err := a.Containers(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := a.Record(name); errors.Is(err, install.ErrNotInstalled) {
			return err
		}
	}
	list = slices.DeleteFunc(list, func(c install.Container) bool { return !o.all && !slices.Contains(names, c.Name) })
	if len(list) == 0 {
		return errors.New("No containers to delete") //nolint:staticcheck // the wording is part of the contract
	}
	rows := [][]string{{"ID", "NAME", "IMAGE_NAME", "STORAGE"}}
	for i := range list {
		rows = append(rows, []string{list[i].Name, list[i].Name, list[i].Image, backend})
	}
	table(g, rows)
	gone := make([]done, len(list))
	for i := range list {
		gone[i] = done{Name: list[i].Name, Status: uninstalled, Image: list[i].Image, DryRun: o.dryRun}
	}
	if o.dryRun {
		return g.jsonOnly(gone)
	}
	if err := g.confirm(); err != nil {
		return err
	}
	for i := range list {
		if err := a.Uninstall(ctx, list[i].Name); err != nil {
			return errors.Join(err, g.jsonOnly(gone[:i]))
		}
		fmt.Fprintf(g.talk(), "Uninstalled %s\n", list[i].Name)
	}
	return g.jsonOnly(gone)
}

// newContainersTrimCommand is for scripts: the original gave unused blocks of
// its docker storage back with it.
func newContainersTrimCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trim",
		Short: "Do nothing: the store is a part of its file system",
		Long: "Do nothing. The original gave unused blocks of docker's block devices back; the store\n" +
			"of atomic is a directory, whose file system fstrim(8) looks after. To remove what no\n" +
			"container needs, use `atomic images prune`.",
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return g.result(done{Name: "store", Status: unchanged}, "Nothing to trim: the store is a directory (fstrim.timer trims its file system).")
		},
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}
