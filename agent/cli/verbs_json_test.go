// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// withoutJSON are the verbs that have no --json, and why.
var withoutJSON = map[string]string{
	"exec":             "standard output is the command's, the exit code its result",
	"plan show":        "for people; the plan's own format is docs/formats/plan.md",
	"attest statement": "prints JSON in any case: exactly the bytes that were measured",
	"attest evidence":  "prints JSON in any case, docs/formats/evidence.md",
	"settle":           "for atomic-settle.service; what it has to say is for the journal",
}

// TestEveryVerbPrintsJSON walks through all verbs: each has --json, or a
// reason not to.
func TestEveryVerbPrintsJSON(t *testing.T) {
	reasons := map[string]bool{}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			walk(c)
		}
		verb := strings.TrimPrefix(cmd.CommandPath(), "atomic ")
		if cmd.HasSubCommands() {
			return
		}
		has := cmd.Flags().Lookup("json") != nil
		if withoutJSON[verb] != "" {
			reasons[verb] = true
			if has {
				t.Errorf("atomic %s has --json, and a reason not to", verb)
			}
			return
		}
		if !has {
			t.Errorf("atomic %s has no --json", verb)
		}
	}
	walk(newRootCommand(&globals{}))
	for verb := range withoutJSON {
		if !reasons[verb] {
			t.Errorf("there is no verb %s", verb)
		}
	}
}
