// SPDX-License-Identifier: Apache-2.0

// Command store measures the image store against podman and tar.
//
// Every contender unpacks the same image of some 560 MB, from an OCI layout and
// from a registry on the loopback interface, onto a fresh file system, in turns,
// and has its data on disk before the clock stops. The table has medians and the
// ratio to ours. It needs root; see -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/test/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == importCommand:
		err = importImage(ctx, os.Args[2], os.Args[3])
	case len(os.Args) == 4 && os.Args[1] == floorCommand:
		err = floor(os.Args[2], os.Args[3])
	case len(os.Args) > 3 && os.Args[1] == timeCommand:
		err = timeProgram(ctx, os.Args[2], os.Args[3], os.Args[4:]...)
	default:
		err = run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "store:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	work   string // fresh directories are made here
	runs   int
	podman string // root of a Debian with podman, or empty
	plain  bool   // no file systems of our own
	log    io.Writer
}

func run(ctx context.Context) error {
	b := &bench{log: os.Stderr}
	flag.StringVar(&b.work, "work", "/var/tmp", "directory on the file system to measure")
	flag.IntVar(&b.runs, "runs", 5, "runs of each contender")
	noPodman := flag.Bool("no-podman", false, "leave podman out")
	flag.BoolVar(&b.plain, "plain", false, "use directories of the file system itself instead of fresh ext4 images on it")
	flag.Parse()
	if os.Geteuid() != 0 {
		return errors.New("run this as root")
	}
	var err error
	if b.work, err = os.MkdirTemp(b.work, "atomic-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.work) }()
	if !*noPodman {
		recipe, err := bed.NewRecipe("trixie", bed.Bench)
		if err != nil {
			return err
		}
		if b.podman, err = recipe.Rootfs(ctx, b.log); err != nil {
			return err
		}
	}
	layouts, err := b.layouts(ctx, "gzip", "zstd", "2")
	if err != nil {
		return err
	}
	results, err := b.measure(ctx, layouts)
	if err != nil {
		return err
	}
	return b.print(os.Stdout, results)
}

// layouts builds the test images library/big and puts them beside the results.
func (b *bench) layouts(ctx context.Context, tags ...string) (map[string]string, error) {
	builder, err := images.NewBuilder(b.log)
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for _, img := range images.Catalogue() {
		if img.Repo != "library/big" || !slices.Contains(tags, img.Tags[0]) {
			continue
		}
		index, err := builder.Build(ctx, img)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(b.work, "image-"+img.Tags[0])
		if _, err := layout.Write(dir, index); err != nil {
			return nil, err
		}
		dirs[img.Tags[0]] = dir
	}
	if len(dirs) != len(tags) {
		return nil, fmt.Errorf("the catalogue has only %d of the images %q", len(dirs), tags)
	}
	return dirs, nil
}

// sample is one run of one contender.
type sample struct {
	wall, cpu time.Duration
	rss, disk int64
}

// result is a line of the table: what and who, and all its samples.
type result struct {
	what, who string
	samples   []sample
}

func median[T int64 | time.Duration](samples []sample, of func(sample) T) T {
	var list []T
	for _, s := range samples {
		list = append(list, of(s))
	}
	slices.Sort(list)
	return list[len(list)/2]
}

func (b *bench) print(w io.Writer, results []*result) error {
	ours := map[string]time.Duration{}
	for _, r := range results {
		if r.who == "atomic" {
			ours[r.what] = median(r.samples, func(s sample) time.Duration { return s.wall })
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "what\twho\twall s\tmin s\t× ours\tCPU s\tRSS MB\tdisk MB\t")
	for _, r := range results {
		wall := median(r.samples, func(s sample) time.Duration { return s.wall })
		least := slices.MinFunc(r.samples, func(a, b sample) int { return int(a.wall - b.wall) }).wall
		ratio := "-"
		if o := ours[r.what]; o > 0 {
			ratio = fmt.Sprintf("%.2f", wall.Seconds()/o.Seconds())
		}
		fmt.Fprintf(t, "%s\t%s\t%.4g\t%.4g\t%s\t%.2f\t%d\t%d\t\n", r.what, r.who, wall.Seconds(), least.Seconds(), ratio,
			median(r.samples, func(s sample) time.Duration { return s.cpu }).Seconds(),
			median(r.samples, func(s sample) int64 { return s.rss })>>20,
			median(r.samples, func(s sample) int64 { return s.disk })>>20)
	}
	fmt.Fprintf(t, "medians of %d runs, in turns, fresh directories, data on disk\n", b.runs)
	return t.Flush()
}
