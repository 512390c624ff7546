// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"os"
	"strings"
	"testing"
)

// list is the file that justifies every difference.
const list = "../../docs/compat-oci.md"

// row is one line of the list's table.
type row struct {
	other, name, key string // patterns
	used             bool
}

func readList(t *testing.T) []row {
	t.Helper()
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	return parseList(string(data))
}

// parseList reads the table below the heading "Differences": runtime, case,
// what, why.
func parseList(text string) []row {
	var rows []row
	_, text, _ = strings.Cut(text, "\n## Differences\n")
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || strings.HasPrefix(cells[0], "-") || strings.TrimSpace(cells[0]) == "runtime" {
			continue
		}
		for i, c := range cells {
			cells[i] = strings.TrimSpace(c)
		}
		for other := range strings.SplitSeq(cells[0], ",") {
			for name := range strings.SplitSeq(cells[1], ",") {
				for key := range strings.SplitSeq(cells[2], ",") {
					trim := func(s string) string { return strings.Trim(strings.TrimSpace(s), "`") }
					rows = append(rows, row{other: trim(other), name: trim(name), key: trim(key)})
				}
			}
		}
	}
	return rows
}

// match compares with a pattern in which * stands for anything.
func match(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	if !star {
		return s == ""
	}
	for i := 0; i <= len(s); i++ {
		if match(rest, s[i:]) {
			return true
		}
	}
	return false
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"*", "", true},
		{"a*", "abc", true},
		{"*c", "abc", true},
		{"a*c", "abc", true},
		{"a*d", "abc", false},
		{"*b*", "abc", true},
		{"", "a", false},
	} {
		if match(tt.pattern, tt.s) != tt.want {
			t.Errorf("%q, %q", tt.pattern, tt.s)
		}
	}
}

func TestCaseNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.name] || strings.ContainsAny(c.name, " /*,") {
			t.Errorf("case %q", c.name)
		}
		seen[c.name] = true
	}
	if len(cases) < 60 {
		t.Errorf("%d cases, want at least 60", len(cases))
	}
}

func TestDifferential(t *testing.T) {
	ctx := life(t)
	l := newLab(ctx, t, cases)
	rows := readList(t)
	ran := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ran++
			ours := l.run(ctx, t, c, l.engines[0])
			if ours.refused() != c.refused && !c.twin {
				t.Errorf("%s: refused is %v\n%s", l.engines[0].name, ours.refused(), ours.stderr)
			}
			for _, e := range l.engines[1:] {
				if c.twin && !e.ours {
					continue
				}
				theirs := l.run(ctx, t, c, e)
				if e.refuses != "" && theirs.refused() && strings.Contains(theirs.stderr, e.refuses) {
					t.Logf("%s declines: %s", e.name, theirs.stderr)
					continue
				}
				compare(t, rows, c.name, l.engines[0].name, ours, e.name, theirs)
			}
		})
	}
	if ran == len(cases) && *selected == "" && !t.Failed() {
		for _, r := range rows {
			if !r.used {
				t.Errorf("%s lists a difference that is none: %s in case %s: %s", list, r.other, r.name, r.key)
			}
		}
	}
}

func compare(t *testing.T, rows []row, name, our string, ours *observation, other string, theirs *observation) {
	t.Helper()
	for _, key := range differences(ours, theirs) {
		listed := false
		for i := range rows {
			if r := &rows[i]; match(r.other, other) && match(r.name, name) && match(r.key, key) {
				r.used, listed = true, true
			}
		}
		if !listed {
			t.Errorf("%s\n%8s: %s\n%8s: %s", key, our, ours.values[key], other, theirs.values[key])
			if key == "refused" {
				t.Logf("%s said: %s\n%s said: %s", our, ours.stderr, other, theirs.stderr)
			}
		}
	}
}
