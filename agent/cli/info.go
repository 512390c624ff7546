// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

type infoOptions struct {
	remote, permissions bool
	storage             string
}

func newInfoCommand(g *globals) *cobra.Command {
	o := &infoOptions{}
	cmd := &cobra.Command{
		Use:   "info [OPTIONS] NAME|IMAGE",
		Short: "Describe a container or an image in the store",
		Args:  args(cobra.ExactArgs(1)),
		RunE:  func(cmd *cobra.Command, a []string) error { return runInfo(cmd.Context(), g, o, a[0]) },
	}
	g.jsonFlag(cmd.Flags())
	cmd.Flags().BoolVar(&o.remote, "remote", false, "not supported")
	cmd.Flags().BoolVar(&o.permissions, "permissions", false, "list what it asks of the host, and why")
	storageFlag(cmd.Flags(), &o.storage)
	return cmd
}

func runInfo(ctx context.Context, g *globals, o *infoOptions, what string) error {
	if err := checkStorage(o.storage); err != nil {
		return err
	}
	if o.remote {
		return hint.New(errors.New("--remote is not supported"), "fetch the image first: atomic pull "+what)
	}
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return err
	}
	defer a.Close()
	if o.permissions {
		return printPermissions(ctx, g, a, what)
	}
	d, err := a.Describe(ctx, what)
	if err != nil {
		return err
	}
	if g.json {
		all := map[string]any{
			"image": d.Image, "digest": d.Digest, "labels": d.Labels, "record": d.Record,
			"variables": variablesJSON(d),
		}
		if d.Health.Status != "" {
			all["health"] = d.Health
		}
		return printJSON(g, all)
	}
	fmt.Fprintf(g.Out, "Image Name: %s\nDigest: %s\n", d.Image, d.Digest)
	for _, k := range slices.Sorted(maps.Keys(d.Labels)) {
		fmt.Fprintf(g.Out, "%s: %s\n", k, d.Labels[k])
	}
	printVariables(g, d)
	printRecord(g, d)
	return nil
}

// printPermissions prints what is asked of the host: by the default profile,
// granted, or yet to be granted.
func printPermissions(ctx context.Context, g *globals, a *install.Agent, what string) error {
	r, err := a.Permissions(ctx, what)
	if err != nil {
		return err
	}
	if g.json {
		return printJSON(g, r)
	}
	rows := [][]string{{"PERMISSION", "ALLOWED", "WHY"}}
	for _, p := range r.Permissions {
		allowed := "granted"
		switch {
		case p.Default:
			allowed = "by default"
		case r.Container == "":
			allowed = "no"
		}
		rows = append(rows, []string{p.Grant, allowed, p.Why})
	}
	table(g, rows)
	return nil
}

func printVariables(g *globals, d *install.Description) {
	heading := "\nTemplate variables with default value, but overridable with --set:\n"
	for _, v := range d.Variables {
		if value := v.Default; v.Host || v.HasDefault {
			if v.Host {
				value = "{SET_BY_OS}"
			}
			fmt.Fprintf(g.Out, "%s%s: %s\n", heading, v.Name, value)
			heading = ""
		}
	}
	heading = "\nTemplate variables that has no default value, and must be set with --set:\n"
	for _, v := range d.Variables {
		if !v.Host && !v.HasDefault {
			fmt.Fprintf(g.Out, "%s%s: {DEF_VALUE}\n", heading, v.Name)
			heading = ""
		}
	}
}

func printRecord(g *globals, d *install.Description) {
	r := d.Record
	if r == nil {
		return
	}
	s := r.Atomic.Signature
	fmt.Fprintf(g.Out, "\nContainer: %s\nDeployment: %d\nSignature: %s", r.Atomic.Name, r.Atomic.Generation, s.Verdict)
	if s.Exception {
		fmt.Fprint(g.Out, " (an exception from the policy)")
	}
	if r.Atomic.Insecure {
		fmt.Fprint(g.Out, "\nRegistry: may be asked without TLS")
	}
	fmt.Fprintf(g.Out, "\nRoot file system: %s", r.Atomic.Rootfs.Image)
	if r.Atomic.Rootfs.Enforced {
		fmt.Fprintln(g.Out, " (verified by the kernel)")
	} else if r.Atomic.Rootfs.Verify == "start" {
		fmt.Fprintln(g.Out, " (verified at every start, not by the kernel)")
	} else {
		fmt.Fprintln(g.Out, " (not verified by the kernel)")
	}
	if i := r.Atomic.IDs; i != nil {
		fmt.Fprintf(g.Out, "User namespace: root is %d, %d IDs\n", i.First, i.Count)
	} else if r.HasContainerService {
		fmt.Fprintln(g.Out, "User namespace: none")
	}
	if o := r.Atomic.Options; o != nil && o.Isolation != "" {
		fmt.Fprintf(g.Out, "Isolation: %s\n", o.Isolation)
	}
	switch r.Atomic.Start.Init {
	case unitgen.InitYes:
		fmt.Fprintln(g.Out, "Process 1: atomic's")
	case unitgen.InitAuto:
		fmt.Fprintln(g.Out, "Process 1: atomic's, as the entrypoint is a shell script")
	}
	if rt := r.Atomic.Start.Runtime; rt != nil {
		fmt.Fprintf(g.Out, "Runtime: %s\n", rt.Path)
	}
	printHealth(g, d)
	if o := r.Atomic.Options; o != nil && o.SurviveSoftReboot == "yes" {
		fmt.Fprintln(g.Out, "Soft reboot: survives")
	}
	for _, grant := range r.Atomic.Grants {
		fmt.Fprintf(g.Out, "Grant: %s\n", grant)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Atomic.UserValues)) {
		fmt.Fprintf(g.Out, "Set: %s=%s\n", k, r.Atomic.UserValues[k])
	}
	printAdditions(g, r.Atomic.Options)
	for _, f := range r.InstalledFiles {
		fmt.Fprintf(g.Out, "Host file: %s\n", f)
	}
}

// printAdditions prints what the administrator has added to what the image says.
func printAdditions(g *globals, o *record.Options) {
	if o == nil {
		return
	}
	for _, part := range []struct {
		title string
		list  []string
	}{{"Environment", o.Env}, {"Volume", o.Volumes}, {"Publish", o.Publish}, {"Property", o.Properties}} {
		for _, s := range part.list {
			fmt.Fprintf(g.Out, "%s: %s\n", part.title, s)
		}
	}
}

// printHealth prints how the health of a container is watched, and the last
// answer.
func printHealth(g *globals, d *install.Description) {
	h := d.Record.Atomic.Start.Health
	if h == nil {
		return
	}
	reaction := "none"
	if o := d.Record.Atomic.Options; o != nil && o.HealthOnFailure != "" {
		reaction = o.HealthOnFailure
	}
	fmt.Fprintf(g.Out, "Health check: %q every %v, on failure: %s\n", h.Test, time.Duration(h.Interval)*time.Millisecond, reaction)
	if s := d.Health; s.Status != "" {
		fmt.Fprintf(g.Out, "Health: %s", s.Status)
		if s.Answer != "" {
			fmt.Fprintf(g.Out, ", %d failed in a row: %q", s.Failures, s.Answer)
		}
		fmt.Fprintln(g.Out)
	}
}

type variableJSON struct {
	Name    string  `json:"name"`
	Default *string `json:"default"`
	Host    bool    `json:"host"`
}

func variablesJSON(d *install.Description) []variableJSON {
	list := make([]variableJSON, len(d.Variables))
	for i, v := range d.Variables {
		list[i] = variableJSON{Name: v.Name, Host: v.Host}
		if v.HasDefault {
			list[i].Default = &v.Default
		}
	}
	return list
}
