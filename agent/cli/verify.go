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
	"github.com/atomic-agent/atomic/unitgen"
)

type verifyOptions struct {
	sourceOptions
	all, verbose bool
	storage      string
}

func newVerifyCommand(g *globals) *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify [OPTIONS] [CONTAINER|IMAGE]",
		Short: "Compare containers with what was installed, images with their registry",
		Long: "Without an argument, compare every container with what was installed: units, copies,\n" +
			"host files, root file systems. With a container's name, compare that one. The exit\n" +
			"code is 1 if something is damaged.\n\n" +
			"With an image's name, or --all for all images, ask the registry whether it has another\n" +
			"version of the image by now; the exit code is 0 even if it has.",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return runVerify(cmd.Context(), g, o, a) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "compare all images with their registries")
	f.Bool("no-validate", false, "accepted; `atomic store fsck` checks content")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "list what does not differ, too")
	g.jsonFlag(f)
	storageFlag(f, &o.storage)
	o.flags(f)
	return cmd
}

func runVerify(ctx context.Context, g *globals, o *verifyOptions, names []string) error {
	if err := checkStorage(o.storage); err != nil {
		return err
	}
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return err
	}
	defer a.Close()
	switch {
	case o.all && len(names) > 0:
		return &usageError{errors.New("--all and the name of one image exclude each other")}
	case o.all:
		images, err := a.Images()
		if err != nil {
			return err
		}
		return verifyImages(ctx, g, a, o, images)
	case len(names) == 0 || a.Installed(names[0]):
		return verifyContainers(ctx, g, a, strings.Join(names, ""))
	}
	img, err := a.FindImage(names[0])
	if err != nil {
		return err
	}
	return verifyImages(ctx, g, a, o, []install.Image{img})
}

func verifyContainers(ctx context.Context, g *globals, a *install.Agent, name string) error {
	findings, err := a.Verify(ctx, name)
	if err != nil {
		return err
	}
	if err := g.jsonOnly(findings); err != nil {
		return err
	}
	damaged := 0
	for _, f := range findings {
		if !f.Modified {
			damaged++
		}
		if !g.json {
			fmt.Fprintf(g.Out, "%s: %s %s\n", f.Container, f.Path, f.Text)
		}
	}
	switch {
	case damaged > 0:
		return hint.New(fmt.Errorf("%d of the files of containers are not as they were installed", damaged),
			"`atomic containers update` or `rollback` writes them anew")
	case !g.json && len(findings) == 0:
		fmt.Fprintln(g.Out, "Everything is as it was installed.")
	}
	return nil
}

// imageDifference is a row of the comparison with registries.
type imageDifference struct {
	Name    string `json:"name"`
	Local   string `json:"local_version"`
	Remote  string `json:"remote_version"`
	Differs bool   `json:"differs"`
}

func verifyImages(ctx context.Context, g *globals, a *install.Agent, o *verifyOptions, images []install.Image) error {
	rows := []imageDifference{}
	failed := 0
	for i := range images {
		row, err := compareImage(ctx, g, a, o, &images[i])
		if err != nil {
			if len(images) == 1 {
				return err
			}
			failed++
			fmt.Fprintf(g.Err, "atomic: warning: %s: %v\n", images[i].Name, err)
			continue
		}
		if row.Differs || o.verbose {
			rows = append(rows, row)
		}
	}
	if g.json {
		if err := printJSON(g, rows); err != nil {
			return err
		}
	} else if len(rows) > 0 {
		cells := [][]string{{"NAME", "LOCAL VERSION", "REMOTE VERSION", "DIFFERS"}}
		for _, r := range rows {
			cells = append(cells, []string{r.Name, r.Local, r.Remote, map[bool]string{true: "True", false: "False"}[r.Differs]})
		}
		table(g, cells)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d images could not be compared: %w", failed, len(images), errPartial)
	}
	return nil
}

func compareImage(ctx context.Context, g *globals, a *install.Agent, o *verifyOptions, img *install.Image) (imageDifference, error) {
	row := imageDifference{Name: img.Name}
	src, err := o.source(g, img.Name)
	if err != nil {
		return row, err
	}
	config, err := a.ImageConfig(ctx, img.ManifestDigest)
	if err != nil {
		return row, err
	}
	remote, err := a.InspectRemote(ctx, src)
	if err != nil {
		return row, err
	}
	row.Local = imageVersion(config.Config.Labels, img.ManifestDigest)
	row.Remote = imageVersion(remote.Config.Config.Labels, remote.Digest.String())
	row.Differs = remote.Digest.String() != img.ManifestDigest
	return row, nil
}

// imageVersion is what an image's labels say about its version, else its ID.
func imageVersion(labels map[string]string, digest string) string {
	version := unitgen.Label(labels, "Version")
	if version == "" {
		return strings.TrimPrefix(digest, "sha256:")
	}
	if release := unitgen.Label(labels, "Release"); release != "" {
		version += "-" + release
	}
	return version
}
