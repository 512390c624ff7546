// SPDX-License-Identifier: Apache-2.0

// Start measures what it costs to start and stop one container, side by side:
// a plain service, atomic, crun, runc and a Quadlet, all of them Type=notify
// units with the same payload, in one bed, in one run, in an order that is
// shuffled anew each round. Numbers of different runs must not be compared.
//
// It prints medians in milliseconds: "start" and "stop" are what systemctl
// takes; "inside" is the part of a start in which the unit is activating.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/test/images"
)

type options struct {
	rounds int
	suite  string
	check  bool
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "n", 25, "rounds; every variant is started once in each")
	flag.StringVar(&o.suite, "suite", "trixie", "the Debian release of the bed")
	flag.BoolVar(&o.check, "check", false, "fail if a target is missed")
	flag.Parse()
	quiet, err := realtime()
	if err == nil && !quiet {
		fmt.Fprintln(os.Stderr, "bench: no real-time priority, so other work on this machine counts")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err == nil {
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		if h := hint.Of(err); h != "" {
			fmt.Fprintf(os.Stderr, "bench: hint: %s\n", h)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	builder, err := images.NewBuilder(os.Stderr)
	if err != nil {
		return err
	}
	storage, err := builder.Storage(ctx, images.Default())
	if err != nil {
		return fmt.Errorf("build test images: %w", err)
	}
	b, err := bed.Boot(ctx, bed.Options{
		Suite: o.suite, Variant: bed.Bench, Product: true, TPM: true, Registry: storage, Log: os.Stderr,
	})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := b.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := b.WaitRunning(ctx); err != nil {
		return err
	}
	h := host{bed: b}
	if err := h.prepare(ctx); err != nil {
		return err
	}
	began := time.Now()
	results, err := rounds(ctx, &h, o.rounds)
	if err != nil {
		return err
	}
	fmt.Printf("systemd %s, %d rounds in %.0f s, medians in ms\n\n", bed.SystemdVersion(o.suite), o.rounds, time.Since(began).Seconds())
	return report(os.Stdout, results, o.check)
}

// rounds starts and stops every variant once a round. A first round is not
// counted: it fills caches and starts machined.
func rounds(ctx context.Context, h *host, n int) (map[string][]sample, error) {
	results := map[string][]sample{}
	order := make([]variant, len(variants))
	copy(order, variants)
	for i := range n + 1 {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, v := range order {
			if err := h.configure(ctx, v); err != nil {
				return nil, err
			}
			s, err := h.measure(ctx, v.unit)
			if err != nil {
				return nil, fmt.Errorf("%s: %w%s", v.name, err, h.journal(ctx, v.unit))
			}
			if i > 0 {
				results[v.name] = append(results[v.name], s)
			}
		}
	}
	return results, nil
}
