// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/internal/hint"
)

type imagesUpdateOptions struct {
	sourceOptions
	all, force bool
	storage    string
}

func newImagesUpdateCommand(g *globals) *cobra.Command {
	o := &imagesUpdateOptions{}
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] [IMAGE]",
		Short: "Fetch what an image's name stands for now",
		Long: "Fetch what an image's name stands for now. Containers stay what they are until they\n" +
			"are updated.",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return runImagesUpdate(cmd.Context(), g, o, a) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "all images in the store")
	f.BoolVarP(&o.force, "force", "f", false, "not supported")
	storageFlag(f, &o.storage)
	o.flags(f)
	g.jsonFlag(f)
	return cmd
}

// imageUpdate is a row of the summary.
type imageUpdate struct {
	Image  string `json:"image"`
	Before string `json:"before"`
	After  string `json:"after"`
	Status string `json:"status"`
}

func runImagesUpdate(ctx context.Context, g *globals, o *imagesUpdateOptions, names []string) error {
	if err := errors.Join(checkStorage(o.storage), o.checkForce()); err != nil {
		return err
	}
	if o.all == (len(names) > 0) {
		return &usageError{errors.New("name one image, or use --all")}
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	if !o.all {
		name := names[0]
		if img, err := a.FindImage(name); err == nil {
			name = img.Name
		}
		return runPull(ctx, g, &pullOptions{sourceOptions: o.sourceOptions}, name)
	}
	images, err := a.Images()
	if err != nil {
		return err
	}
	rows, failed := []imageUpdate{}, 0
	for i := range images {
		if strings.Contains(images[i].Name, "@") || strings.HasPrefix(images[i].Name, "localhost/") {
			fmt.Fprintf(g.Err, "%s: skipping, there is nothing to ask a registry for\n", images[i].Name)
			continue
		}
		row := o.one(ctx, g, a, &images[i])
		if row.Status == install.Failed {
			failed++
		}
		rows = append(rows, row)
	}
	if g.json {
		err = printJSON(g, rows)
	} else {
		summary(g, rows)
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d images could not be updated: %w", failed, len(rows), errPartial)
	}
	return err
}

func (o *imagesUpdateOptions) checkForce() error {
	if o.force {
		return hint.New(errors.New("--force is not supported"), "nothing needs removing before an image is fetched anew")
	}
	return nil
}

func (o *imagesUpdateOptions) one(ctx context.Context, g *globals, a *install.Agent, img *install.Image) imageUpdate {
	before := strings.TrimPrefix(img.ManifestDigest, "sha256:")
	row := imageUpdate{Image: img.Name, Before: before, After: before}
	src, err := o.source(g, img.Name)
	if err == nil {
		src.Progress = nil
		var digest string
		if _, digest, err = a.Pull(ctx, src); err == nil {
			row.After = strings.TrimPrefix(digest, "sha256:")
		}
	}
	switch {
	case err != nil:
		fmt.Fprintf(g.Err, "atomic: warning: %v\n", err)
		row.Status = install.Failed
	case row.After != before:
		row.Status = install.UpdatedNow
	default:
		row.Status = install.UpToDate
	}
	return row
}

func summary(g *globals, rows []imageUpdate) {
	fmt.Fprintln(g.Out, "\nSUMMARY")
	cells := [][]string{{"Image", "Image ID before update", "Image ID after update", "Status"}}
	for _, r := range rows {
		cells = append(cells, []string{r.Image, shortID(r.Before, false), shortID(r.After, false), r.Status})
	}
	table(g, cells)
}
