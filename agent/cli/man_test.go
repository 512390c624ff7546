// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestManPages: every verb has a page that names it and each of its options.
func TestManPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/man/*.1.md")
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]string{} // by what its NAME section names
	for _, file := range pages {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "## NAME\n\n")
		names, _, _ := strings.Cut(rest, " - ")
		for name := range strings.SplitSeq(names, ", ") {
			page[name] = string(text)
		}
	}
	// Options of the original tool that do nothing here are explained in one place.
	doNothing := regexp.MustCompile(`^(accepted|not supported)`)
	root := newRootCommand(&globals{})
	for _, verb := range root.Commands() {
		if verb.Hidden || verb.Name() == "help" || verb.Name() == "completion" {
			continue
		}
		text, ok := page["atomic-"+verb.Name()]
		if !ok {
			t.Errorf("no page in docs/man names atomic-%s", verb.Name())
			continue
		}
		eachOption(verb, func(cmd *cobra.Command, option *pflag.Flag) {
			where := text
			if doNothing.MatchString(option.Usage) {
				where += page["atomic"]
			}
			if !regexp.MustCompile(`--` + regexp.QuoteMeta(option.Name) + `\b`).MatchString(where) {
				t.Errorf("the page of atomic-%s lacks --%s of %q", verb.Name(), option.Name, cmd.CommandPath())
			}
		})
	}
}

// eachOption calls do for every option of the command and of those below it.
func eachOption(cmd *cobra.Command, do func(*cobra.Command, *pflag.Flag)) {
	cmd.LocalNonPersistentFlags().VisitAll(func(option *pflag.Flag) {
		if !option.Hidden && option.Name != "help" {
			do(cmd, option)
		}
	})
	for _, sub := range cmd.Commands() {
		eachOption(sub, do)
	}
}
