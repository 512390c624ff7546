// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

func newLintCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint IMAGE|DIRECTORY",
		Short: "Check the templates of an image for its author",
		Long: "Check the templates of an image in the store, or those in a directory that has, or\n" +
			"is, the image's /exports. The exit code is 1 if there are errors.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return runLint(cmd.Context(), g, a[0]) },
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}

func runLint(ctx context.Context, g *globals, what string) error {
	exports, err := lintExports(ctx, g, what)
	if err != nil {
		return err
	}
	findings := unitgen.Lint(*exports)
	if err := g.jsonOnly(append([]unitgen.Finding{}, findings...)); err != nil {
		return err
	}
	failed := false
	for _, f := range findings {
		failed = failed || f.Level == "error"
		if !g.json {
			fmt.Fprintln(g.Out, f)
		}
	}
	if failed {
		return errSilent
	}
	return nil
}

func lintExports(ctx context.Context, g *globals, what string) (*unitgen.Exports, error) {
	if st, err := os.Stat(what); err == nil && st.IsDir() {
		dir := filepath.Join(what, "exports")
		if _, err := os.Stat(dir); err != nil {
			dir = what
		}
		return install.ReadExports(os.DirFS(dir))
	}
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	img, err := a.FindImage(what)
	if err != nil {
		return nil, hint.New(err, fmt.Sprintf("fetch it with `atomic pull %s`, or name a directory", what))
	}
	exports, err := a.ImageExports(ctx, img.ManifestDigest)
	if err == nil && exports.Empty() {
		err = errors.New(img.Name + " has no templates: nothing to check")
	}
	return exports, err
}
