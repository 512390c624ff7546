// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
)

func newTrustCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Say which images may be installed",
		Long:  "Show and change the host's signature policy, containers-policy.json(5).",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTrustShowCommand(g), newTrustAddCommand(g), newTrustDeleteCommand(g), newTrustDefaultCommand(g), newTrustResetCommand(g))
	return cmd
}

// transports are the words that the original has for containers/image's.
var transports = map[string]string{"web": "docker", "local": "dir", "atomic": "atomic"}

func transport(word string) (string, error) {
	t, ok := transports[word]
	if !ok {
		return "", &usageError{fmt.Errorf("--sigstoretype %q is none of web, local, atomic", word)}
	}
	return t, nil
}

func newTrustShowCommand(g *globals) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "show [OPTIONS]",
		Short: "Show the signature policy",
		Args:  args(cobra.NoArgs),
		RunE:  func(*cobra.Command, []string) error { return runTrustShow(g, raw) },
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "print the policy file as it is")
	cmd.Flags().BoolVarP(&g.json, "json", "j", false, "print the result as JSON")
	return cmd
}

// defaultScope stands for all images that no scope is about.
const defaultScope = "* (default)"

// trustRow is a scope as it is listed.
type trustRow struct {
	Scope     string   `json:"name"`
	Transport string   `json:"transport"`
	Type      string   `json:"type"`
	Keys      []string `json:"keys"`
	Sigstore  string   `json:"sigstore"`
}

func runTrustShow(g *globals, raw bool) error {
	if raw {
		text, err := trust.Raw(g.host())
		if err != nil {
			return err
		}
		_, err = g.Out.Write(text)
		return err
	}
	scopes, err := trust.Scopes(g.host())
	if err != nil {
		return err
	}
	rows := []trustRow{}
	for _, s := range scopes {
		row := trustRow{Scope: s.Name, Transport: s.Transport, Type: "accept", Keys: []string{}, Sigstore: s.Lookaside}
		if s.Transport == "" {
			row.Scope = defaultScope
		}
		for _, r := range s.Requirements {
			row.Type = requirementWords[r.Type]
			row.Keys = append(row.Keys, r.KeyPaths...)
			if r.KeyPath != "" {
				row.Keys = append(row.Keys, r.KeyPath)
			}
		}
		rows = append(rows, row)
	}
	if g.json {
		return printJSON(g, rows)
	}
	cells := [][]string{}
	for _, r := range rows {
		keys := []string{}
		for _, k := range r.Keys {
			keys = append(keys, filepath.Base(k))
		}
		cells = append(cells, []string{r.Scope, r.Type, strings.Join(keys, ","), r.Sigstore})
	}
	table(g, cells)
	return nil
}

var requirementWords = map[string]string{
	trust.Accept: "accept", trust.Reject: "reject", trust.SignedBy: "signed", trust.SigstoreSigned: "signed", "signedBaseLayer": "signed",
}

type trustAddOptions struct {
	keys, keyFiles                     []string
	kind, keyType, sigstore, transport string
}

func newTrustAddCommand(g *globals) *cobra.Command {
	o := &trustAddOptions{}
	cmd := &cobra.Command{
		Use:   "add [OPTIONS] REGISTRY[/REPOSITORY]",
		Short: "Say whose images of a registry may be installed",
		Args:  args(cobra.ExactArgs(1)),
		RunE:  func(cmd *cobra.Command, a []string) error { return runTrustAdd(cmd.Context(), g, o, a[0]) },
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.keys, "pubkeys", "k", nil, "the `FILE` of a public key that must have signed; can be repeated, any one of them is enough")
	f.StringArrayVarP(&o.keyFiles, "pubkeysfile", "f", nil, "the same")
	f.StringVarP(&o.kind, "type", "t", trust.SignedBy, "`TYPE`: signedBy (GPG), sigstoreSigned, insecureAcceptAnything, reject")
	f.StringVar(&o.keyType, "keytype", "GPGKeys", "accepted: GPGKeys")
	f.StringVarP(&o.sigstore, "sigstore", "s", "", "the `URL` of signatures that are kept apart from the registry")
	f.StringVar(&o.transport, "sigstoretype", "web", "`KIND` of storage: web (registries), local, atomic")
	g.jsonFlag(f)
	return cmd
}

func runTrustAdd(ctx context.Context, g *globals, o *trustAddOptions, name string) error {
	s, err := o.scope(name)
	if err != nil {
		return err
	}
	scopes, err := trust.Scopes(g.host())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(scopes, func(old trust.Scope) bool { return old.Transport == s.Transport && old.Name == name }) {
		fmt.Fprintf(g.talk(), "The policy says something about %s already; this replaces it.\n", name)
		if err := g.confirm(); err != nil {
			return err
		}
	}
	if err := trust.SetScope(ctx, g.host(), s); err != nil {
		return err
	}
	return g.jsonOnly(done{Name: name, Status: "set"})
}

func (o *trustAddOptions) scope(name string) (trust.Scope, error) {
	s := trust.Scope{Name: strings.TrimSuffix(name, "/"), Lookaside: o.sigstore}
	var err error
	if s.Transport, err = transport(o.transport); err != nil {
		return s, err
	}
	keys, err := keyFiles(slices.Concat(o.keys, o.keyFiles))
	if err != nil {
		return s, err
	}
	r := trust.Requirement{Type: o.kind}
	switch o.kind {
	case trust.SignedBy, trust.SigstoreSigned:
		if len(keys) == 0 {
			return s, hint.New(fmt.Errorf("at least one public key must be defined for type %q", o.kind), "name its file with --pubkeys")
		}
		if o.kind == trust.SignedBy {
			r.KeyType = o.keyType
		}
		if len(keys) == 1 {
			r.KeyPath = keys[0]
		} else {
			r.KeyPaths = keys
		}
	case trust.Accept, trust.Reject:
		if len(keys) > 0 {
			return s, &usageError{fmt.Errorf("type %s takes no keys", o.kind)}
		}
	default:
		return s, &usageError{fmt.Errorf("type %q is none of signedBy, sigstoreSigned, insecureAcceptAnything, reject", o.kind)}
	}
	s.Requirements = []trust.Requirement{r}
	return s, nil
}

// keyFiles makes the names of key files absolute, as a policy has them.
func keyFiles(names []string) ([]string, error) {
	list := make([]string, len(names))
	for i, n := range names {
		abs, err := filepath.Abs(n)
		if err == nil {
			_, err = os.Stat(abs)
		}
		if err != nil {
			return nil, hint.New(fmt.Errorf("public key: %w", err), "give the file of an exported key (gpg --export)")
		}
		list[i] = abs
	}
	return list, nil
}

func newTrustDeleteCommand(g *globals) *cobra.Command {
	var word string
	var keep bool
	cmd := &cobra.Command{
		Use:     "delete [OPTIONS] REGISTRY[/REPOSITORY]",
		Aliases: []string{"remove"},
		Short:   "Make the policy say nothing about a registry",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			t, err := transport(word)
			if err != nil {
				return err
			}
			if err := trust.RemoveScope(cmd.Context(), g.host(), t, a[0], keep); err != nil {
				return err
			}
			return g.jsonOnly(done{Name: a[0], Status: "removed"})
		},
	}
	g.jsonFlag(cmd.Flags())
	cmd.Flags().StringVar(&word, "sigstoretype", "web", "`KIND` of storage: web (registries), local, atomic")
	cmd.Flags().BoolVar(&keep, "save-sigstore", false, "remember where its signatures are")
	return cmd
}

func newTrustDefaultCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:       "default accept|reject",
		Short:     "Say what holds for all other images",
		ValidArgs: []string{"accept", "reject"},
		Args:      args(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		RunE: func(cmd *cobra.Command, a []string) error {
			kind := trust.Reject
			if a[0] == "accept" {
				kind = trust.Accept
			}
			if err := trust.SetDefault(cmd.Context(), g.host(), kind); err != nil {
				return err
			}
			return g.jsonOnly(done{Name: defaultScope, Status: "set"})
		},
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}

func newTrustResetCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Reject everything, as a host without a policy does",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(g.talk(), "This removes everything that the policy says.")
			if err := g.confirm(); err != nil {
				return err
			}
			if err := trust.Reset(cmd.Context(), g.host()); err != nil {
				return err
			}
			return g.jsonOnly(done{Name: defaultScope, Status: "set"})
		},
	}
	g.jsonFlag(cmd.Flags())
	return cmd
}
