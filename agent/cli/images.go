// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/internal/hint"
)

func newImagesCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "images", Short: "See and change the images in the store", Args: args(cobra.NoArgs)}
	info, verify := newInfoCommand(g), newVerifyCommand(g)
	info.Use, info.Short = "info [OPTIONS] IMAGE", "Describe an image in the store"
	cmd.AddCommand(
		newImagesListCommand(g), info, newImagesVersionCommand(g), newImagesTagCommand(g), newImagesDeleteCommand(g),
		newImagesPruneCommand(g), newImagesUpdateCommand(g), verify,
	)
	return cmd
}

func newImagesListCommand(g *globals) *cobra.Command {
	o := &listOptions{}
	cmd := &cobra.Command{
		Use:     "list [OPTIONS]",
		Aliases: []string{"ls"},
		Short:   "List the images in the store",
		Args:    args(cobra.NoArgs),
		RunE:    func(*cobra.Command, []string) error { return runImagesList(g, o) },
	}
	o.flags(cmd.Flags(), "accepted; there are no intermediate images", "image IDs only")
	g.jsonFlag(cmd.Flags())
	return cmd
}

// imageRow is an image as it is listed; the keys are the original tool's.
type imageRow struct {
	Repo        string   `json:"repo"`
	Tag         string   `json:"tag"`
	IsDangling  bool     `json:"is_dangling"`
	Used        bool     `json:"used"`
	Vulnerable  bool     `json:"vulnerable"`
	ID          string   `json:"id"`
	Type        string   `json:"type"`
	Created     string   `json:"created"`
	VirtualSize string   `json:"virtual_size"`
	Backend     string   `json:"backend"`
	VulnInfo    struct{} `json:"vuln_info"`
}

func runImagesList(g *globals, o *listOptions) error {
	match, err := imageFilter(o.filters)
	if err != nil {
		return err
	}
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return err
	}
	defer a.Close()
	images, err := a.Images()
	if err != nil {
		return err
	}
	rows := []imageRow{}
	for i := range images {
		if r := newImageRow(&images[i]); match(&r) {
			rows = append(rows, r)
		}
	}
	switch {
	case o.quiet:
		for _, r := range rows {
			fmt.Fprintln(g.Out, shortID(r.ID, o.noTrunc))
		}
	case g.json:
		return printJSON(g, rows)
	default:
		imagesTable(g, o, rows)
	}
	return nil
}

func newImageRow(img *install.Image) imageRow {
	name, _, _ := strings.Cut(img.Name, "@")
	repo, tag := name, ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		repo, tag = name[:i], name[i+1:]
	}
	return imageRow{
		Repo: repo, Tag: tag, Used: img.Used, ID: strings.TrimPrefix(img.ManifestDigest, "sha256:"), Type: backend, Backend: backend,
		Created: img.Created.UTC().Format(time.RFC3339), VirtualSize: bytes(img.Size),
	}
}

func imagesTable(g *globals, o *listOptions, rows []imageRow) {
	cells := [][]string{}
	if !o.noHeading {
		cells = append(cells, []string{" ", "REPOSITORY", "TAG", "IMAGE ID", "CREATED", "VIRTUAL SIZE", "TYPE"})
	}
	for _, r := range rows {
		mark := " "
		if r.Used {
			mark = ">"
		}
		cells = append(cells, []string{mark, r.Repo, r.Tag, shortID(r.ID, o.noTrunc), r.Created[:16], r.VirtualSize, r.Type})
	}
	table(g, cells)
}

func shortID(id string, whole bool) string {
	if whole || len(id) < 12 {
		return id
	}
	return id[:12]
}

func bytes(n int64) string {
	const units = "BKMGT"
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.2f %cB", f, units[i])
}

func imageFilter(filters []string) (func(*imageRow) bool, error) {
	fields := map[string]func(*imageRow) string{
		"repo": func(r *imageRow) string { return r.Repo }, "repository": func(r *imageRow) string { return r.Repo },
		"tag": func(r *imageRow) string { return r.Tag }, "id": func(r *imageRow) string { return r.ID },
		"image": func(r *imageRow) string { return r.ID }, "created": func(r *imageRow) string { return r.Created },
		"size": func(r *imageRow) string { return r.VirtualSize }, "type": func(r *imageRow) string { return r.Type },
		"is_dangling": func(r *imageRow) string { return fmt.Sprint(r.IsDangling) },
	}
	var all filter[imageRow]
	for _, f := range filters {
		key, want, ok := strings.Cut(f, "=")
		if !ok {
			return nil, hint.New(fmt.Errorf("The filter %s is not formatted correctly", f), "write --filter repo=etcd") //nolint:staticcheck // the wording is part of the contract
		}
		value, ok := fields[key]
		if !ok {
			return nil, hint.New(fmt.Errorf("The filter %s is not valid", key), "filters: repo, tag, id, created, size, type, is_dangling") //nolint:staticcheck // the wording is part of the contract
		}
		all.add(value, want)
	}
	return all.match, nil
}
