// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/internal/hint"
)

func newImagesTagCommand(g *globals) *cobra.Command {
	var storage string
	cmd := &cobra.Command{
		Use:   "tag IMAGE NAME",
		Short: "Give an image in the store another name",
		Args:  args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return runImagesTag(cmd.Context(), g, storage, a[0], a[1])
		},
	}
	storageFlag(cmd.Flags(), &storage)
	g.jsonFlag(cmd.Flags())
	return cmd
}

func runImagesTag(ctx context.Context, g *globals, storage, image, name string) error {
	if err := checkStorage(storage); err != nil {
		return err
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	full, err := a.Tag(ctx, image, name)
	if err != nil {
		return err
	}
	return g.result(done{Name: full, Status: "tagged", Image: image}, "Tagged %s as %s", image, full)
}

type imagesDeleteOptions struct {
	sourceOptions
	all, remote, dryRun bool
	storage             string
}

func newImagesDeleteCommand(g *globals) *cobra.Command {
	o := &imagesDeleteOptions{}
	cmd := &cobra.Command{
		Use:   "delete [OPTIONS] IMAGE...",
		Short: "Remove images from the store, or from their registry",
		Long: "List the images, ask, and remove their names. `atomic images prune` frees the space.\n" +
			"Containers keep what they need, and can still be rolled back.",
		RunE: func(cmd *cobra.Command, a []string) error { return runImagesDelete(cmd.Context(), g, o, a) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "all images")
	f.BoolP("force", "f", false, "accepted; removing needs no force")
	f.BoolVar(&o.remote, "remote", false, "delete from the registry instead")
	f.BoolVar(&o.dryRun, "dry-run", false, "list them only")
	g.jsonFlag(f)
	storageFlag(f, &o.storage)
	o.flags(f)
	return cmd
}

func runImagesDelete(ctx context.Context, g *globals, o *imagesDeleteOptions, names []string) error {
	if err := checkStorage(o.storage); err != nil {
		return err
	}
	if o.all == (len(names) > 0) || o.all && o.remote {
		return errors.New("You must select --all or provide a list of images to delete.") //nolint:staticcheck,revive // the wording is part of the contract
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	if !o.remote {
		if names, err = imageNames(a, o.all, names); err != nil {
			return err
		}
	}
	storage := backend
	if o.remote {
		storage = "remote"
	}
	rows := [][]string{{"IMAGE", "STORAGE"}}
	for _, n := range names {
		rows = append(rows, []string{n, storage})
	}
	table(g, rows)
	gone := make([]done, len(names))
	for i, n := range names {
		gone[i] = done{Name: n, Status: "deleted", DryRun: o.dryRun}
	}
	if o.dryRun {
		return g.jsonOnly(gone)
	}
	if err := g.confirm(); err != nil {
		return err
	}
	if o.remote {
		return deleteRemote(ctx, g, a, o, gone)
	}
	for i, n := range names {
		if err := a.Untag(ctx, n); err != nil {
			return errors.Join(err, g.jsonOnly(gone[:i]))
		}
	}
	return g.jsonOnly(gone)
}

// imageNames finds the full names of images in the store.
func imageNames(a *install.Agent, all bool, names []string) ([]string, error) {
	var full []string
	images, err := a.Images()
	if err != nil {
		return nil, err
	}
	if all {
		for i := range images {
			full = append(full, images[i].Name)
		}
		if len(full) == 0 {
			return nil, errors.New("No images to delete") //nolint:staticcheck // as for containers
		}
		return full, nil
	}
	for _, n := range names {
		img, err := a.FindImage(n)
		if err != nil {
			return nil, err
		}
		for i := range images {
			// A digest stands for all names of its image.
			byDigest := !strings.Contains(img.Name, n) && images[i].ManifestDigest == img.ManifestDigest
			if (byDigest || images[i].Name == img.Name) && !slices.Contains(full, images[i].Name) {
				full = append(full, images[i].Name)
			}
		}
	}
	return full, nil
}

func deleteRemote(ctx context.Context, g *globals, a *install.Agent, o *imagesDeleteOptions, list []done) error {
	gone := []done{}
	for _, d := range list {
		src, err := o.source(g, d.Name)
		if err == nil {
			err = a.DeleteRemote(ctx, src)
		}
		if err != nil {
			fmt.Fprintf(g.Err, "atomic: error: %v\n", err)
			continue
		}
		gone = append(gone, d)
	}
	err := g.jsonOnly(gone)
	if failed := len(list) - len(gone); failed > 0 {
		return hint.New(&usageError{fmt.Errorf("%d of %d images were not deleted", failed, len(list))}, "many registries refuse to delete: ask their administrator")
	}
	return err
}

func newImagesPruneCommand(g *globals) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove from the store what no image name and no container needs",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return runImagesPrune(cmd.Context(), g, dryRun) },
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say how much it is and remove nothing")
	g.jsonFlag(cmd.Flags())
	return cmd
}

// removed is what a collection of garbage says.
type removed struct {
	Status  string `json:"status"`
	DryRun  bool   `json:"dryRun,omitempty"`
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"`
}

func runImagesPrune(ctx context.Context, g *globals, dryRun bool) error {
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	res, err := a.Prune(ctx, dryRun)
	if err != nil {
		return err
	}
	text := "Removed %d objects, %s"
	if dryRun {
		text = "Would remove %d objects, %s"
	}
	return g.result(removed{"removed", dryRun, res.Objects, res.Bytes}, text, res.Objects, bytes(res.Bytes))
}

func newImagesVersionCommand(g *globals) *cobra.Command {
	var storage string
	cmd := &cobra.Command{
		Use:   "version IMAGE...",
		Short: "Show the versions of images in the store",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return runImagesVersion(cmd.Context(), g, storage, a)
		},
	}
	cmd.Flags().BoolP("recurse", "r", false, "accepted; layers have no versions")
	g.jsonFlag(cmd.Flags())
	storageFlag(cmd.Flags(), &storage)
	return cmd
}

func runImagesVersion(ctx context.Context, g *globals, storage string, names []string) error {
	if err := checkStorage(storage); err != nil {
		return err
	}
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return err
	}
	defer a.Close()
	type row struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		ID      string `json:"id"`
	}
	rows := []row{}
	for _, n := range names {
		img, err := a.FindImage(n)
		if err != nil {
			return err
		}
		config, err := a.ImageConfig(ctx, img.ManifestDigest)
		if err != nil {
			return err
		}
		rows = append(rows, row{img.Name, imageVersion(config.Config.Labels, img.ManifestDigest), strings.TrimPrefix(img.ManifestDigest, "sha256:")})
	}
	if g.json {
		return printJSON(g, rows)
	}
	cells := [][]string{{"IMAGE NAME", "VERSION", "IMAGE ID"}}
	for _, r := range rows {
		cells = append(cells, []string{r.Name, r.Version, r.ID})
	}
	table(g, cells)
	return nil
}
