// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Targets for atomic with everything on.
const (
	maxPlain   = 2.0 // times as long as plain
	minQuadlet = 3.0 // times as fast as a Quadlet
)

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
	starts := func(name string) []time.Duration {
		return column(results[name], func(s sample) time.Duration { return s.start })
	}
	plain := quantile(starts("plain"), 0.5)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "variant\tstart\tmin\tp95\tinside\tstop\tto plain\t")
	for _, v := range variants {
		start := starts(v.name)
		inside := column(results[v.name], func(s sample) time.Duration { return s.inside })
		stop := column(results[v.name], func(s sample) time.Duration { return s.stop })
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\n", v.name,
			ms(quantile(start, 0.5)), ms(start[0]), ms(quantile(start, 0.95)), ms(quantile(inside, 0.5)), ms(quantile(stop, 0.5)),
			float64(quantile(start, 0.5))/float64(plain), v.what)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	atomic, quadlet := quantile(starts("atomic"), 0.5), quantile(starts("quadlet"), 0.5)
	toPlain, toQuadlet := float64(atomic)/float64(plain), float64(quadlet)/float64(atomic)
	fmt.Fprintf(out, "\natomic starts in %.2f times a plain service's time (target: at most %.1f), %.1f times as fast as a Quadlet (target: at least %.1f)\n",
		toPlain, maxPlain, toQuadlet, minQuadlet)
	if check && (toPlain > maxPlain || toQuadlet < minQuadlet) {
		return errors.New("a target is missed")
	}
	return nil
}
