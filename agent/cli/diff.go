// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/internal/hint"
)

type diffOptions struct {
	meta, names, noFiles, rpms bool
	keywords                   []string
}

func newDiffCommand(g *globals) *cobra.Command {
	o := &diffOptions{}
	cmd := &cobra.Command{
		Use: "diff [OPTIONS] A B", Short: "Compare the files of two images or containers", Args: args(cobra.ExactArgs(2)),
		Long: "Lists the files that are only in B (+), only in A (-), or different (M, and in what).\n" +
			"The exit code is 1 if there are any.",
		RunE: func(cmd *cobra.Command, words []string) error {
			return runDiff(cmd.Context(), g, o, words[0], words[1])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.meta, "metadata", "m", false, "list files that differ in nothing but their time, too")
	f.StringSliceVarP(&o.keywords, "keywords", "k", nil, "compare files by `WORD` only: all, link, mode, type, time, uid, gid, size, sha256digest; can be repeated")
	f.BoolVar(&o.names, "names-only", false, "list paths only")
	f.BoolVarP(&o.rpms, "rpms", "r", false, "not supported")
	f.BoolVarP(&o.noFiles, "no-files", "n", false, "not supported")
	f.BoolP("verbose", "v", false, "accepted; it was about packages")
	g.jsonFlag(f)
	return cmd
}

// keywords are the original's words for what can differ, and the store's.
var keywords = map[string]string{
	"link": "content", "mode": "mode", "type": "type", "time": "time", "uid": "owner", "gid": "owner", "size": "content", "sha256digest": "content",
}

// counts says which differences of a file count.
func (o *diffOptions) counts() (func(what string) bool, error) {
	words := map[string]bool{}
	for _, k := range o.keywords {
		word, ok := keywords[k]
		if !ok && k != "all" {
			return nil, hint.New(&usageError{fmt.Errorf("there is no keyword %q", k)}, "keywords: all, link, mode, type, time, uid, gid, size, sha256digest")
		}
		words[word] = true // "" for all
	}
	return func(what string) bool { return len(words) == 0 || words[""] || words[what] }, nil
}

func runDiff(ctx context.Context, g *globals, o *diffOptions, a, b string) error {
	if o.rpms || o.noFiles {
		return hint.New(errors.New("packages are not compared, only files"), "mount both (atomic mount) and compare what `rpm --root DIR -qa` says")
	}
	counts, err := o.counts()
	if err != nil {
		return err
	}
	s, err := g.store()
	if err != nil {
		return err
	}
	all, err := diff(ctx, s, a, b)
	if err != nil {
		return err
	}
	changes := []store.Change{}
	for _, c := range all {
		if c.Kind == "changed" {
			c.What = slices.DeleteFunc(c.What, func(what string) bool { return !counts(what) })
			onlyTime := len(c.What) == 1 && c.What[0] == "time" && !o.meta && len(o.keywords) == 0
			if len(c.What) == 0 || onlyTime {
				continue
			}
		}
		changes = append(changes, c)
	}
	if err := printChanges(g, o, changes); err != nil {
		return err
	}
	if len(changes) > 0 {
		return errSilent
	}
	return nil
}

func printChanges(g *globals, o *diffOptions, changes []store.Change) error {
	if g.json && !o.names {
		return printJSON(g, changes)
	}
	mark := map[string]string{"added": "+", "removed": "-", "changed": "M"}
	names := make([]string, len(changes))
	for i, c := range changes {
		names[i] = c.Path
		switch what := strings.Join(c.What, ", "); {
		case g.json:
		case o.names:
			fmt.Fprintf(g.Out, "%q\n", c.Path)
		case what != "":
			fmt.Fprintf(g.Out, "%s %q (%s)\n", mark[c.Kind], c.Path, what)
		default:
			fmt.Fprintf(g.Out, "%s %q\n", mark[c.Kind], c.Path)
		}
	}
	if g.json {
		return printJSON(g, names)
	}
	return nil
}

func diff(ctx context.Context, s *store.Store, a, b string) ([]store.Change, error) {
	treeA, err := treeOf(ctx, s, a)
	if err != nil {
		return nil, err
	}
	treeB, err := treeOf(ctx, s, b)
	if err != nil {
		return nil, err
	}
	return store.Diff(treeA, treeB), nil
}

// treeOf reads the files of an image or a container.
func treeOf(ctx context.Context, s *store.Store, name string) (*tree.Tree, error) {
	image, err := s.ImageOf(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.ReadTree(ctx, image)
}
