// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/atomic-agent/atomic/test/bed"
)

// together is how many containers the section many starts at once.
const together = 50

// many starts containers and plain services, fifty of a kind at once.
func many(ctx context.Context, h *host, _ options) error {
	const n = 5
	if err := h.prepare(ctx); err != nil {
		return err
	}
	sets := map[string][]string{}
	for i := range together {
		for _, set := range []string{"plain", "crun", "runc"} {
			name := fmt.Sprintf("%s-%d.service", set, i)
			text := strings.Replace(units["/etc/systemd/system/"+set+".service"], "bench-"+set, fmt.Sprintf("bench-%s-%d", set, i), 1)
			if err := h.bed.Write(ctx, "/etc/systemd/system/"+name, 0o644, strings.NewReader(text)); err != nil {
				return err
			}
			sets[set] = append(sets[set], name)
		}
		for set, conf := range map[string]string{"atomic": "", "atomic oci": complete} {
			name := strings.ReplaceAll(set, " ", "-") + fmt.Sprintf("-%d", i)
			if err := h.configure(ctx, conf); err != nil {
				return err
			}
			if err := h.bed.Write(ctx, "/etc/systemd/system/"+name+".service.d/bench.conf", 0o644, strings.NewReader(helloEnvironment)); err != nil {
				return err
			}
			if err := h.install(ctx, name, image); err != nil {
				return err
			}
			sets[set] = append(sets[set], name+".service")
		}
	}
	if _, err := h.bed.Run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	confs := map[string]string{"atomic oci": complete, "atomic, bare": bare}
	sets["atomic, bare"] = sets["atomic"]
	order := []string{"plain", "atomic", "atomic, bare", "atomic oci", "crun", "runc"}
	results := map[string][]sample{}
	for i := range n + 1 {
		for _, set := range order {
			if err := h.configure(ctx, confs[set]); err != nil {
				return err
			}
			s, err := h.measure(ctx, sets[set]...)
			if err != nil {
				return fmt.Errorf("%s: %w%s", set, err, h.journal(ctx, sets[set][0]))
			}
			if i > 0 {
				results[set] = append(results[set], s)
			}
		}
	}
	fmt.Printf("%d at once, medians of %d rounds\n\n", together, n)
	return compared(order, results)
}

// compared prints starts and stops beside those of the first.
func compared(order []string, results map[string][]sample) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "variant\tstart\tmin\tstop\tstart to first\tstop to first")
	var first, firstStop time.Duration
	for _, name := range order {
		starts := column(results[name], func(s sample) time.Duration { return s.start })
		start := quantile(starts, 0.5)
		stop := quantile(column(results[name], func(s sample) time.Duration { return s.stop }), 0.5)
		if first == 0 {
			first, firstStop = start, stop
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f\t%.2f\n", name, ms(start), ms(starts[0]), ms(stop),
			float64(start)/float64(first), float64(stop)/float64(firstStop))
	}
	return w.Flush()
}

// crowd measures the same container alone and among many installed ones, which
// have run and whose root file systems are mounted.
func crowd(ctx context.Context, h *host, o options) error {
	if err := h.prepare(ctx); err != nil {
		return err
	}
	list := slices.DeleteFunc(slices.Clone(variants), func(v variant) bool {
		return !strings.HasPrefix(v.name, "atomic") && v.name != "plain"
	})
	for _, n := range []int{0, o.crowd} {
		if err := h.configure(ctx, ""); err != nil {
			return err
		}
		for i := range n {
			if err := h.install(ctx, fmt.Sprintf("crowd-%d", i), image); err != nil {
				return err
			}
		}
		results, err := rounds(ctx, h, o.rounds, list)
		if err != nil {
			return err
		}
		fmt.Printf("beside %d installed containers, medians of %d rounds\n\n", n, o.rounds)
		var order []string
		for _, v := range list {
			order = append(order, v.name)
		}
		if err := compared(order, results); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

// size measures the same payload in a small and in a large image.
func size(ctx context.Context, h *host, o options) error {
	if err := h.prepare(ctx); err != nil {
		return err
	}
	if err := h.configure(ctx, ""); err != nil {
		return err
	}
	if err := h.bed.Write(ctx, "/etc/systemd/system/big.service.d/bench.conf", 0o644, strings.NewReader(helloEnvironment)); err != nil {
		return err
	}
	if err := h.install(ctx, "big", bed.RegistryHost+"/library/big:gzip"); err != nil {
		return err
	}
	results, err := rounds(ctx, h, o.rounds, []variant{{name: "small", unit: "hello.service"}, {name: "large", unit: "big.service"}})
	if err != nil {
		return err
	}
	fmt.Printf("a small and a large image, medians of %d rounds\n\n", o.rounds)
	return compared([]string{"small", "large"}, results)
}

// commands measures a command in a running container: the payload's program,
// which complains about its arguments.
func commands(ctx context.Context, h *host, o options) error {
	if err := h.prepare(ctx); err != nil {
		return err
	}
	for _, v := range []variant{{name: "by its plan", unit: "hello"}, {name: "by libcontainer", unit: "hello-oci", conf: complete}} {
		if err := h.configure(ctx, v.conf); err != nil {
			return err
		}
		if _, err := h.bed.Run(ctx, "systemctl", "start", v.unit); err != nil {
			return err
		}
		for _, command := range [][]string{
			{"atomic", "exec", v.unit, "/usr/bin/hello", "-none"},
			{"/usr/libexec/atomic/atomic-launch", "exec", v.unit, "/usr/bin/hello", "-none"},
		} {
			times, err := h.execute(ctx, o.rounds, command...)
			if err != nil {
				return err
			}
			slices.Sort(times)
			fmt.Printf("started %s: %s exec: median %s, min %s, p95 %s\n", v.name, command[0],
				ms(quantile(times, 0.5)), ms(times[0]), ms(quantile(times, 0.95)))
		}
	}
	return nil
}
