// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atomic-agent/atomic/install"
)

func newContainersCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "containers", Short: "List, update and roll back containers", Args: args(cobra.NoArgs)}
	cmd.AddCommand(
		newContainersListCommand(g), newContainersUpdateCommand(g), newContainersRollbackCommand(g),
		newContainersDeleteCommand(g), newContainersTrimCommand(g),
	)
	return cmd
}

// listOptions are the options of a listing.
type listOptions struct {
	all, quiet, noTrunc, noHeading bool
	filters                        []string
}

// flags defines the options; what --all and --quiet mean depends on the list.
func (o *listOptions) flags(f *pflag.FlagSet, all, quiet string) {
	f.BoolVarP(&o.all, "all", "a", false, all)
	f.BoolVarP(&o.quiet, "quiet", "q", false, quiet)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "do not shorten columns")
	f.BoolVarP(&o.noHeading, "noheading", "n", false, "no heading")
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "only those with `VARIABLE=VALUE`; can be repeated")
}

func newContainersListCommand(g *globals) *cobra.Command {
	o := &listOptions{}
	cmd := &cobra.Command{
		Use:     "list [OPTIONS]",
		Aliases: []string{"ls"},
		Short:   "List the containers that are installed",
		Args:    args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runContainersList(cmd.Context(), g, o) },
	}
	o.flags(cmd.Flags(), "also those that do not run", "names only")
	g.jsonFlag(cmd.Flags())
	return cmd
}

// newPSCommand is the list under the name that users of other tools expect.
func newPSCommand(g *globals) *cobra.Command {
	cmd := newContainersListCommand(g)
	cmd.Use, cmd.Aliases = "ps [OPTIONS]", nil
	return cmd
}

// containerJSON has the keys of the original tool, and ours in "atomic".
type containerJSON struct {
	ID         string         `json:"id"`
	ImageID    string         `json:"image_id"`
	ImageName  string         `json:"image_name"`
	Name       string         `json:"name"`
	Command    string         `json:"command"`
	Created    string         `json:"created"`
	State      string         `json:"state"`
	Backend    string         `json:"backend"`
	Runtime    string         `json:"runtime"`
	Vulnerable bool           `json:"vulnerable"`
	Running    bool           `json:"running"`
	Atomic     containerExtra `json:"atomic"`
}

type containerExtra struct {
	Generation int    `json:"generation"`
	Signature  string `json:"signature"`
	Exception  bool   `json:"exception"`
	Verified   bool   `json:"verified"`
	Unsettled  bool   `json:"unsettled"`
	Health     string `json:"health,omitempty"`
	Problem    string `json:"problem,omitempty"`
}

// column is a column of the table and the filter of its name.
type column struct {
	heading string
	width   int
	filter  string
	value   func(*install.Container) string
}

func containerColumns() []column {
	return []column{
		{"CONTAINER ID", 12, "container", func(c *install.Container) string { return c.Name }},
		{"IMAGE", 20, "image", func(c *install.Container) string { return c.Image }},
		{"NAME", 10, "", func(c *install.Container) string { return c.Name }},
		{"COMMAND", 10, "command", func(c *install.Container) string { return c.Command }},
		{"CREATED", 16, "created", created},
		{"STATE", 20, "state", state},
		{"BACKEND", 10, "backend", func(*install.Container) string { return backend }},
		{"RUNTIME", 10, "runtime", func(c *install.Container) string { return c.Runtime }},
	}
}

// backend is the word that the original tool has for system containers.
const backend = "ostree"

// state is the state, with what the health checks say.
func state(c *install.Container) string {
	if c.Health == "" {
		return c.State
	}
	return c.State + " (" + string(c.Health) + ")"
}

func created(c *install.Container) string {
	if c.Created.IsZero() {
		return ""
	}
	return c.Created.UTC().Format("2006-01-02 15:04")
}

func runContainersList(ctx context.Context, g *globals, o *listOptions) error {
	match, err := containerFilter(o.filters)
	if err != nil {
		return err
	}
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return err
	}
	defer a.Close()
	list, err := a.Containers(ctx)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(c install.Container) bool {
		return !o.all && c.State == "inactive" || !match(&c)
	})
	switch {
	case o.quiet:
		var names strings.Builder
		for i := range list {
			names.WriteString(list[i].Name + "\n")
		}
		fmt.Fprint(g.Out, names.String())
	case g.json:
		return printJSON(g, containersJSON(list))
	case len(list) > 0:
		containersTable(g, o, list)
	}
	return nil
}

func containersJSON(list []install.Container) []containerJSON {
	out := make([]containerJSON, len(list))
	for i := range list {
		c := &list[i]
		out[i] = containerJSON{
			ID: c.Name, ImageID: c.ImageID, ImageName: c.Image, Name: c.Name, Command: c.Command,
			State: c.State, Backend: backend, Runtime: c.Runtime, Running: c.State == "running",
			Atomic: containerExtra{
				Generation: c.Generation, Signature: c.Signature.Verdict, Exception: c.Signature.Exception,
				Verified: c.Verified, Unsettled: c.Unsettled, Health: string(c.Health), Problem: c.Problem,
			},
		}
		if !c.Created.IsZero() {
			out[i].Created = c.Created.UTC().Format(time.RFC3339)
		}
	}
	return out
}

func containersTable(g *globals, o *listOptions, list []install.Container) {
	rows := [][]string{}
	if !o.noHeading {
		row := []string{}
		for _, c := range containerColumns() {
			row = append(row, c.heading)
		}
		rows = append(rows, row)
	}
	for i := range list {
		row := []string{}
		for _, c := range containerColumns() {
			v := c.value(&list[i])
			if len(v) > c.width && !o.noTrunc {
				v = v[:c.width]
			}
			row = append(row, v)
		}
		rows = append(rows, row)
	}
	table(g, rows)
	for i := range list {
		if list[i].Problem != "" {
			fmt.Fprintf(g.Err, "atomic: warning: %s: %s\n", list[i].Name, list[i].Problem)
		}
		if list[i].Unsettled {
			fmt.Fprintf(g.Err, "atomic: warning: %s: a command was interrupted; the next one completes or undoes it\n", list[i].Name)
		}
	}
}

// table prints rows in columns as wide as their widest cell.
func table(g *globals, rows [][]string) {
	width := map[int]int{}
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], len(cell))
		}
	}
	var all strings.Builder
	for _, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			fmt.Fprintf(&b, "%-*s ", width[i], cell)
		}
		all.WriteString(strings.TrimRight(b.String(), " ") + "\n")
	}
	fmt.Fprint(g.talk(), all.String())
}

// containerFilter reads VARIABLE=VALUE filters.
func containerFilter(filters []string) (func(*install.Container) bool, error) {
	var all filter[install.Container]
	for _, f := range filters {
		key, want, ok := strings.Cut(f, "=")
		columns := containerColumns()
		i := slices.IndexFunc(columns, func(c column) bool { return key != "" && c.filter == key })
		if !ok || i < 0 {
			return nil, fmt.Errorf("The filter %s is not valid.  Please choose from [container, image, command, created, state, backend, runtime]", f) //nolint:staticcheck // the wording is part of the contract
		}
		all.add(columns[i].value, want)
	}
	return all.match, nil
}

// filter are the conditions of a listing, all of which must be met: each is
// about a part of a value, in upper or lower case.
type filter[T any] []func(*T) bool

func (f *filter[T]) add(value func(*T) string, want string) {
	want = strings.ToLower(want)
	*f = append(*f, func(row *T) bool { return strings.Contains(strings.ToLower(value(row)), want) })
}

func (f filter[T]) match(row *T) bool {
	return !slices.ContainsFunc(f, func(met func(*T) bool) bool { return !met(row) })
}
