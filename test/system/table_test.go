// SPDX-License-Identifier: Apache-2.0

package system

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/atomic-agent/atomic/test/bed"
)

var update = flag.Bool("update", false, "rewrite the table of verbs in atomic-machinectl(7)")

const (
	verbScript = "machinectl.txtar"
	verbPage   = "../../docs/man/atomic-machinectl.7.md"
)

// TestVerbTable holds the table in atomic-machinectl(7) to what machinectl.txtar
// finds on each system.
func TestVerbTable(t *testing.T) {
	script, err := txtar.ParseFile(verbScript)
	if err != nil {
		t.Fatal(err)
	}
	table, err := verbTable(script)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(verbPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	start := strings.Index(page, "\n| verb |") + 1
	length := strings.Index(page[start:], "\n\n") + 1
	if start == 0 || length == 0 {
		t.Fatalf("%s has no table of verbs", verbPage)
	}
	if page[start:start+length] == table {
		return
	}
	if *update {
		if err := os.WriteFile(verbPage, []byte(page[:start]+table+page[start+length:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s differs from what %s finds; go test ./test/system -run %s -update writes it (-page +found):\n%s",
		verbPage, verbScript, t.Name(), gocmp.Diff(page[start:start+length], table))
}

// verbTable makes a table of the results that a script compares with, in files
// named verbs-SUITE of lines "VERB: RESULT". Neighbours with the same results
// share a row.
func verbTable(script *txtar.Archive) (string, error) {
	var verbs []string
	var versions []string
	results := map[string][]string{} // by verb, by suite
	suites := slices.SortedFunc(slices.Values(bed.Suites), func(a, b string) int {
		return cmp.Compare(bed.SystemdVersion(a), bed.SystemdVersion(b))
	})
	for _, suite := range suites {
		i := slices.IndexFunc(script.Files, func(f txtar.File) bool { return f.Name == "verbs-"+suite })
		if i < 0 {
			return "", fmt.Errorf("no file verbs-%s", suite)
		}
		versions = append(versions, bed.SystemdVersion(suite))
		for line := range strings.Lines(string(script.Files[i].Data)) {
			verb, result, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok {
				return "", fmt.Errorf("verbs-%s: %q is no result", suite, line)
			}
			if results[verb] == nil {
				verbs = append(verbs, verb)
			}
			results[verb] = append(results[verb], result)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| verb | systemd %s |\n|---|%s\n", strings.Join(versions, " | "), strings.Repeat("---|", len(versions)))
	for len(verbs) > 0 {
		same := results[verbs[0]]
		if len(same) != len(versions) {
			return "", fmt.Errorf("%s was not tried on every system", verbs[0])
		}
		n := slices.IndexFunc(verbs, func(v string) bool { return !slices.Equal(results[v], same) })
		if n < 0 {
			n = len(verbs)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(verbs[:n], ", "), strings.Join(same, " | "))
		verbs = verbs[n:]
	}
	return b.String(), nil
}
