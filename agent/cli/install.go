// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// sourceOptions say where an image comes from; several verbs have them.
type sourceOptions struct {
	creds         string
	allowUnsigned bool
}

func (o *sourceOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.creds, "src-creds", "", "log in to the registry as `USER[:PASSWORD]`; without a password it is asked for")
	f.BoolVar(&o.allowUnsigned, "allow-unsigned", false, "make an exception from the signature policy for this command")
}

func (o *sourceOptions) source(g *globals, name string) (install.Source, error) {
	creds, err := g.credentials(o.creds)
	return install.Source{Image: name, Credentials: creds, AllowUnsigned: o.allowUnsigned, Progress: g.progress()}, err
}

// fetchOptions say, besides, whether the registry is asked.
type fetchOptions struct {
	sourceOptions
	pull string
}

func (o *fetchOptions) flags(f *pflag.FlagSet, standard install.Pull) {
	o.sourceOptions.flags(f)
	f.StringVar(&o.pull, "pull", string(standard), "ask the registry `WHEN`: always, missing (only if the store lacks the image), never")
}

func (o *fetchOptions) source(g *globals, name string) (install.Source, error) {
	src, err := o.sourceOptions.source(g, name)
	if err != nil {
		return src, err
	}
	switch src.Pull = install.Pull(o.pull); src.Pull {
	case install.Always, install.Missing, install.Never:
		return src, nil
	}
	return src, &usageError{fmt.Errorf("--pull %q is none of always, missing, never", o.pull)}
}

type installOptions struct {
	fetchOptions
	system, user  bool
	name          string
	set           []string
	grants        []string
	add           unitgen.Options
	display       bool
	systemPackage string
	rootfs        string
	storage       string
}

func newInstallCommand(g *globals) *cobra.Command {
	o := &installOptions{}
	cmd := &cobra.Command{
		Use:   "install [--system] [OPTIONS] IMAGE",
		Short: "Install an image as a system container",
		Long: "Fetch an image, check it against the signature policy, render its templates and\n" +
			"install it as a service. The service is enabled and not started.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if o.system && o.user {
				return usage(cmd, errors.New("--system and --user exclude each other"))
			}
			return runInstall(cmd.Context(), g, o, a[0])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.system, "system", false, "install a system container (the only kind there is)")
	f.BoolVar(&o.user, "user", false, "not supported")
	f.StringVarP(&o.name, "name", "n", "", "name of the container (default: the image's)")
	f.StringArrayVar(&o.set, "set", nil, "give a template variable a value, `NAME=VALUE`; can be repeated")
	f.StringArrayVar(&o.grants, "grant", nil, "allow the container a `PERMISSION` on the host; can be repeated")
	additionFlags(f, &o.add)
	f.BoolVar(&o.display, "display", false, "show what would be installed and change nothing")
	f.BoolVar(&o.display, "dry-run", false, "the same as --display")
	f.StringVar(&o.systemPackage, "system-package", "auto", "accepted: auto, no")
	f.StringVar(&o.rootfs, "rootfs", "", "not supported")
	storageFlag(f, &o.storage)
	g.jsonFlag(f)
	o.flags(f, install.Missing)
	return cmd
}

// check refuses what the original has and atomic has not.
func (o *installOptions) check() error {
	switch {
	case o.user:
		return hint.New(errors.New("--user does not work: containers are services of the system"), "run this as root, with --system")
	case o.rootfs != "":
		return hint.New(errors.New("--rootfs is not supported: a root file system is an image in the store"), "push it to a registry and install it from there")
	case o.systemPackage != "auto" && o.systemPackage != "no":
		return hint.New(fmt.Errorf("--system-package=%s is not supported", o.systemPackage), "host files are installed directly; leave the option out")
	}
	return checkStorage(o.storage)
}

func runInstall(ctx context.Context, g *globals, o *installOptions, name string) error {
	if err := o.check(); err != nil {
		return err
	}
	set, err := install.ParseSet(o.set)
	if err != nil {
		return err
	}
	src, err := o.source(g, name)
	if err != nil {
		return err
	}
	a, err := g.agent()
	if err != nil {
		return err
	}
	defer a.Close()
	res, err := g.withGrants(o.grants, func(grants []string) (*install.Result, error) {
		return a.Install(ctx, install.Options{Source: src, Name: o.name, Set: set, Grants: grants, Add: o.add, DryRun: o.display})
	})
	if errors.Is(err, install.ErrRunOnce) && !o.display && !g.json {
		// As in the original, installing such an image is running it.
		once := &runOptions{fetchOptions: o.fetchOptions, name: o.name, set: o.set, grants: o.grants, add: o.add}
		return once.image(ctx, g, a, name, nil)
	}
	switch {
	case err != nil:
		return err
	case res.Present:
		return g.result(doneTo(res.Name, unchanged, res.Record), "%s already present", res.Name)
	case o.display:
		return display(g, res)
	}
	err = g.result(doneTo(res.Name, "installed", res.Record), "Installed %s from %s", res.Name, res.Record.Image)
	if res.Record.HasContainerService {
		fmt.Fprintf(g.talk(), "Start it: systemctl start %s\n", res.Name)
	}
	return err
}

// display prints what a dry run rendered.
func display(g *globals, res *install.Result) error {
	out := res.Output
	if g.json {
		return printJSON(g, struct {
			Name        string               `json:"name"`
			Image       string               `json:"image"`
			Digest      string               `json:"digest"`
			Unit        string               `json:"unit"`
			DropIn      string               `json:"dropIn"`
			Tmpfiles    string               `json:"tmpfiles"`
			Config      json.RawMessage      `json:"config"`
			Values      map[string]string    `json:"values"`
			HostFiles   []string             `json:"hostFiles"`
			Permissions []unitgen.Permission `json:"permissions"`
		}{
			res.Name, res.Record.Image, res.Record.Atomic.ManifestDigest, string(out.Unit), string(out.DropIn),
			string(out.Tmpfiles), out.Config, out.Values, hostPaths(out), out.Permissions,
		})
	}
	fmt.Fprintf(g.Out, "Container: %s\nImage: %s\nDigest: %s\n", res.Name, res.Record.Image, res.Record.Atomic.ManifestDigest)
	for _, part := range []struct {
		title string
		text  []byte
	}{{res.Name + ".service", out.Unit}, {unitgen.DropInName(res.Name), out.DropIn}, {"tmpfiles.d/" + res.Name + ".conf", out.Tmpfiles}} {
		if part.text != nil {
			fmt.Fprintf(g.Out, "\n# %s\n%s", part.title, part.text)
		}
	}
	for _, p := range hostPaths(out) {
		fmt.Fprintf(g.Out, "Host file: %s\n", p)
	}
	for _, p := range out.Permissions {
		fmt.Fprintf(g.Out, "Permission: %s (%s)\n", p.Grant, p.Why)
	}
	for _, k := range slices.Sorted(maps.Keys(out.Values)) {
		fmt.Fprintf(g.Out, "Value: %s=%s\n", k, out.Values[k])
	}
	return nil
}

func hostPaths(out *unitgen.Output) []string {
	list := make([]string, len(out.HostFiles))
	for i, f := range out.HostFiles {
		list[i] = f.Path
	}
	return list
}
