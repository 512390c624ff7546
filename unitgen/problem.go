// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with an input, at the place where its author can
// correct it.
type Problem struct {
	// File is the file in the image ("/exports/service.template") or the
	// option of the command ("--set"); Line and Column count from 1 and are 0
	// where there is none.
	File         string
	Line, Column int
	// Variable is the template variable whose value caused the problem.
	Variable string
	Text     string
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	b.WriteString(": ")
	b.WriteString(p.Text)
	if p.Variable != "" {
		fmt.Fprintf(&b, " (value of $%s)", p.Variable)
	}
	return b.String()
}

// Problems is the error of Render: every problem of the input, in the order of
// files and lines.
type Problems struct {
	List []Problem
	// Unset are the names of variables that have no value.
	Unset []string
}

func (p *Problems) Error() string {
	lines := make([]string, len(p.List))
	for i, q := range p.List {
		lines[i] = q.String()
	}
	return strings.Join(lines, "\n")
}

// Hint says what to do about the problems.
func (p *Problems) Hint() string {
	if len(p.Unset) > 0 {
		var b strings.Builder
		b.WriteString("give the missing values with")
		for _, name := range p.Unset {
			fmt.Fprintf(&b, " --set %s=VALUE", name)
		}
		return b.String()
	}
	for _, q := range p.List {
		if q.Variable != "" {
			return "give " + q.Variable + " another value with --set " + q.Variable + "=VALUE"
		}
	}
	if !slices.ContainsFunc(p.List, func(q Problem) bool { return !strings.HasPrefix(q.File, "--") }) {
		return "" // the options themselves are wrong, and the problem says how
	}
	if !slices.ContainsFunc(p.List, func(q Problem) bool { return !strings.HasSuffix(q.Text, notNative) }) {
		return "leave --isolation out: the launcher can do it"
	}
	return "the image's /exports files need correction; atomic lint IMAGE checks them"
}

func (p *Problems) add(q Problem) { p.List = append(p.List, q) }

func (p *Problems) addf(file string, line, column int, format string, args ...any) {
	p.add(Problem{File: file, Line: line, Column: column, Text: fmt.Sprintf(format, args...)})
}

// err returns p if it holds a problem.
func (p *Problems) err() error {
	if len(p.List) == 0 {
		return nil
	}
	slices.SortStableFunc(p.List, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	p.List = slices.Compact(p.List)
	slices.Sort(p.Unset)
	p.Unset = slices.Compact(p.Unset)
	return p
}
