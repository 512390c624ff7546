// SPDX-License-Identifier: Apache-2.0

// Bed builds, boots and removes test beds from the command line; see the
// README of package bed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/test/bed"
)

const usage = `usage:
  bed build [-bench] [SUITE…]          build root file systems (default: all suites)
  bed shell [options] [SUITE]          boot a bed and open a shell in it
  bed run [options] SUITE -- COMMAND…  boot a bed, run one command in it
  bed gc                               remove what killed beds left behind
SUITE is bookworm, trixie (default) or forky. Options:
`

// options are the flags of shell and run.
type options struct {
	bed      bed.Options
	args     []string // the command of run
	bench    bool
	product  bool
	registry string
	binds    []bed.Bind
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bed: error: %v\n", err)
		if h := hint.Of(err); h != "" {
			fmt.Fprintf(os.Stderr, "bed: hint: %s\n", h)
		}
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string, log io.Writer) (int, error) {
	if len(args) == 0 {
		printUsage(log)
		return 2, nil
	}
	verb, args := args[0], args[1:]
	switch verb {
	case "build":
		return exitCode(build(ctx, args, log))
	case "gc":
		return exitCode(bed.Sweep(ctx))
	case "shell", "run":
		opts, err := parse(verb, args, log)
		if errors.Is(err, flag.ErrHelp) {
			return 0, nil
		}
		if err != nil {
			return 2, err
		}
		opts.bed.Log = log
		if err := chooseRegistry(ctx, verb, &opts); err != nil {
			return 1, err
		}
		if verb == "shell" {
			return exitCode(shell(ctx, opts.bed, log))
		}
		return runCommand(ctx, opts)
	}
	printUsage(log)
	return 2, fmt.Errorf("unknown verb %q", verb)
}

func exitCode(err error) (int, error) {
	if err != nil {
		return 1, err
	}
	return 0, nil
}

func flags(opts *options) *flag.FlagSet {
	fs := flag.NewFlagSet("bed", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&opts.bed.Name, "name", "", "host `name` of the bed")
	fs.BoolVar(&opts.bench, "bench", false, "with the peers: podman, crun, runc, skopeo, umoci")
	fs.BoolVar(&opts.product, "product", true, "install atomic (bin/, from make build)")
	fs.BoolVar(&opts.bed.TPM, "tpm", true, "with a software TPM")
	fs.StringVar(&opts.registry, "registry", "", "serve a registry: \"images\" (the test images), \"empty\", or the storage `dir`")
	fs.Func("bind", "bind mount `SOURCE:TARGET[:ro]`; may be repeated", func(s string) error {
		bind, err := parseBind(s)
		opts.binds = append(opts.binds, bind)
		return err
	})
	return fs
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, usage)
	fs := flags(new(options))
	fs.SetOutput(w)
	fs.PrintDefaults()
}

// parse reads the arguments of shell and run.
func parse(verb string, args []string, log io.Writer) (options, error) {
	var opts options
	fs := flags(&opts)
	fs.Usage = func() { printUsage(log) }
	if i := slices.Index(args, "--"); i >= 0 {
		args, opts.args = args[:i], args[i+1:]
	}
	if err := fs.Parse(args); err != nil {
		return opts, err
	}
	switch {
	case fs.NArg() > 1:
		return opts, fmt.Errorf("unexpected argument %q (the command goes after --)", fs.Arg(1))
	case verb == "run" && len(opts.args) == 0:
		return opts, errors.New("no command: bed run SUITE -- COMMAND")
	case verb == "shell" && len(opts.args) > 0:
		return opts, errors.New("shell takes no command: use bed run")
	}
	opts.bed.Suite = fs.Arg(0)
	opts.bed.Product = opts.product
	opts.bed.Binds = opts.binds
	if opts.bench {
		opts.bed.Variant = bed.Bench
	}
	return opts, nil
}

func parseBind(s string) (bed.Bind, error) {
	part := strings.Split(s, ":")
	b := bed.Bind{Source: part[0]}
	switch {
	case len(part) == 2:
		b.Target = part[1]
	case len(part) == 3 && part[2] == "ro":
		b.Target, b.ReadOnly = part[1], true
	default:
		return b, errors.New("want SOURCE:TARGET or SOURCE:TARGET:ro")
	}
	return b, nil
}

// chooseRegistry turns the value of -registry into a storage directory. A shell
// has the test images by default.
func chooseRegistry(ctx context.Context, verb string, opts *options) error {
	if opts.registry == "" && verb == "shell" {
		opts.registry = "images"
	}
	if opts.registry != "images" {
		opts.bed.Registry = opts.registry
		return nil
	}
	dir, err := testImages(ctx, opts.bed.Log)
	opts.bed.Registry = dir
	return err
}

func build(ctx context.Context, args []string, log io.Writer) error {
	variant := bed.Base
	if len(args) > 0 && args[0] == "-bench" {
		variant, args = bed.Bench, args[1:]
	}
	if len(args) == 0 {
		args = bed.Suites
	}
	for _, suite := range args {
		recipe, err := bed.NewRecipe(suite, variant)
		if err != nil {
			return err
		}
		dir, err := recipe.Rootfs(ctx, log)
		if err != nil {
			return err
		}
		fmt.Println(dir)
	}
	return nil
}

func runCommand(ctx context.Context, opts options) (int, error) {
	b, err := bed.Boot(ctx, opts.bed)
	if err != nil {
		return 1, err
	}
	code, err := b.Exec(ctx, bed.Command{Args: opts.args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err := errors.Join(err, b.Close()); err != nil {
		return 1, err
	}
	return code, nil
}

func shell(ctx context.Context, opts bed.Options, log io.Writer) (err error) {
	fmt.Fprintln(log, "bed: booting, a moment")
	b, err := bed.Boot(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for {
		fmt.Fprintf(log, "bed: %s with systemd %s; exit ends it and removes all of it\n", b.Suite(), bed.SystemdVersion(b.Suite()))
		if err := b.Shell(ctx); err != nil {
			return err
		}
		if _, reboot, err := b.Stopping(ctx); err != nil || !reboot {
			return err
		}
		fmt.Fprintln(log, "bed: booting again")
		if err := b.Start(ctx); err != nil {
			return err
		}
	}
}
