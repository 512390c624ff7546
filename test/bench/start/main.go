// SPDX-License-Identifier: Apache-2.0

// Start measures what it costs to start and stop containers, side by side: a
// plain service, atomic with both engines, systemd's own sandbox, crun, runc,
// nspawn and a Quadlet, all of them Type=notify units with the same payload, in
// one bed, in one run, in an order that is shuffled anew each round. Numbers of
// different runs must not be compared.
//
// It prints medians in milliseconds: "start" and "stop" are what systemctl
// takes; "inside" is the part of a start in which the unit is activating;
// "helpers" is the memory (PSS, KiB) of what runs beside the payload.
//
//	make bench                                            # one container
//	go run ./test/bench/start -section many               # 50 at once
//	go run ./test/bench/start -section crowd -crowd 500   # among 500 installed ones
//	go run ./test/bench/start -section size               # a large image
//	go run ./test/bench/start -section exec               # a command in a container
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
	rounds  int
	suite   string
	section string
	crowd   int
	check   bool
}

// sections are what can be measured.
var sections = map[string]func(ctx context.Context, h *host, o options) error{
	"one": one, "many": many, "crowd": crowd, "size": size, "exec": commands,
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "n", 25, "rounds; every variant is started once in each")
	flag.StringVar(&o.suite, "suite", "trixie", "the Debian release of the bed")
	flag.StringVar(&o.section, "section", "one", "what to measure: one, many, crowd, size or exec")
	flag.IntVar(&o.crowd, "crowd", 100, "how many containers are installed beside the measured one in the section crowd")
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
	section := sections[o.section]
	if section == nil {
		return fmt.Errorf("there is no section %q", o.section)
	}
	builder, err := images.NewBuilder(os.Stderr)
	if err != nil {
		return err
	}
	list := images.Default()
	if o.section == "size" {
		if list, err = images.Select("hello:notify", "hello:plain", "big:gzip"); err != nil {
			return err
		}
	}
	storage, err := builder.Storage(ctx, list)
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
	fmt.Printf("systemd %s, times in ms\n\n", bed.SystemdVersion(o.suite))
	return section(ctx, &host{bed: b}, o)
}

// one starts and stops every variant once a round.
func one(ctx context.Context, h *host, o options) error {
	if err := h.prepare(ctx); err != nil {
		return err
	}
	began := time.Now()
	results, err := rounds(ctx, h, o.rounds, variants)
	if err != nil {
		return err
	}
	fmt.Printf("one container, medians of %d rounds in %.0f s\n\n", o.rounds, time.Since(began).Seconds())
	return report(os.Stdout, results, o.check)
}

// rounds measures variants in an order that is shuffled anew each round. A
// first round is not counted: it fills caches and starts machined.
func rounds(ctx context.Context, h *host, n int, list []variant) (map[string][]sample, error) {
	results := map[string][]sample{}
	order := make([]variant, len(list))
	copy(order, list)
	for i := range n + 1 {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, v := range order {
			if err := h.configure(ctx, v.conf); err != nil {
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
