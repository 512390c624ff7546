// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// target is a bound for a ratio of medians.
type target struct {
	what    string
	limit   float64
	atLeast bool
	get     func(m medians) float64
}

// medians of one run by variant.
type medians struct{ start, stop map[string]time.Duration }

func (m medians) starts(a, b string) float64 { return float64(m.start[a]) / float64(m.start[b]) }
func (m medians) stops(a, b string) float64  { return float64(m.stop[a]) / float64(m.stop[b]) }

var targets = []target{
	{"start by plan, bare, to plain", 1.3, false, func(m medians) float64 { return m.starts("atomic, bare", "plain") }},
	{"start by libcontainer, bare, to plain", 2.0, false, func(m medians) float64 { return m.starts("atomic oci, bare", "plain") }},
	{"start by plan, measured and registered, to plain", 1.3, false, func(m medians) float64 { return m.starts("atomic", "plain") }},
	{"stop to plain", 1.2, false, func(m medians) float64 { return m.stops("atomic", "plain") }},
	{"Quadlet to start by plan", 3, true, func(m medians) float64 { return m.starts("quadlet", "atomic") }},
	{"start of a default image by plan, to plain", 1.3, false, func(m medians) float64 { return m.starts("generated", plainExec) }},
	{"measured and registered, more than bare, in ms", 4, false, func(m medians) float64 {
		return float64((m.start["atomic"] - m.start["atomic, bare"]).Microseconds()) / 1000
	}},
}

// met reports whether a target is.
func (t target) met(m medians) bool {
	if t.atLeast {
		return t.get(m) >= t.limit
	}
	return t.get(m) <= t.limit
}

// quantile returns the q-th part of sorted durations.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func column(samples []sample, get func(sample) time.Duration) []time.Duration {
	all := make([]time.Duration, len(samples))
	for i, s := range samples {
		all[i] = get(s)
	}
	slices.Sort(all)
	return all
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

// report prints the table and what it means.
func report(out io.Writer, results map[string][]sample, check bool) error {
	m := medians{map[string]time.Duration{}, map[string]time.Duration{}}
	for name, samples := range results {
		m.start[name] = quantile(column(samples, func(s sample) time.Duration { return s.start }), 0.5)
		m.stop[name] = quantile(column(samples, func(s sample) time.Duration { return s.stop }), 0.5)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "variant\tstart\tmin\tp95\tinside\tstop\tto plain\thelpers\t")
	for _, v := range variants {
		start := column(results[v.name], func(s sample) time.Duration { return s.start })
		inside := column(results[v.name], func(s sample) time.Duration { return s.inside })
		var helpers int64
		for _, s := range results[v.name] {
			helpers = max(helpers, s.helpers)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%d\t%s\n", v.name,
			ms(m.start[v.name]), ms(start[0]), ms(quantile(start, 0.95)), ms(quantile(inside, 0.5)), ms(m.stop[v.name]),
			m.starts(v.name, cmp.Or(v.beside, "plain")), helpers, v.what)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	missed := false
	for _, t := range targets {
		word, relation := "met", "at most"
		if !t.met(m) {
			word, missed = "MISSED", true
		}
		if t.atLeast {
			relation = "at least"
		}
		fmt.Fprintf(out, "%-50s %5.2f  (%s %.1f: %s)\n", t.what, t.get(m), relation, t.limit, word)
	}
	if check && missed {
		return errors.New("a target is missed")
	}
	return nil
}
