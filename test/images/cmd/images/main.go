// SPDX-License-Identifier: Apache-2.0

// Command images builds the test images and puts them where tests find them.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/test/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := newCommand(os.Stdout).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "images: error:", err)
		os.Exit(1)
	}
}

// options are what all verbs share.
type options struct {
	registry images.Registry
	bench    bool
}

func newCommand(out io.Writer) *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:           "images",
		Short:         "build the test images",
		Long:          "images builds the container images that the tests install, from Debian packages and Go\nmodules, and keeps them in $ATOMIC_TEST_CACHE (default: ~/.cache/atomic-test).",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	list := &cobra.Command{
		Use: "list [IMAGE...]", Short: "list the images and what they are for",
		RunE: func(_ *cobra.Command, args []string) error { return o.list(out, args) },
	}
	build := &cobra.Command{
		Use: "build [IMAGE...]", Short: "build images and print their digests",
		RunE: func(c *cobra.Command, args []string) error { return o.build(c.Context(), out, args) },
	}
	push := &cobra.Command{
		Use: "push [IMAGE...]", Short: "push images to a registry",
		RunE: func(c *cobra.Command, args []string) error { return o.push(c.Context(), out, args) },
	}
	tag := &cobra.Command{
		Use: "tag SRC DST", Short: "make a tag in a registry name another image of it", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error { return o.registry.Tag(c.Context(), args[0], args[1]) },
	}
	storage := &cobra.Command{
		Use: "storage [IMAGE...]", Short: "fill the storage directory of a docker-registry and print its path",
		RunE: func(c *cobra.Command, args []string) error { return o.storage(c.Context(), out, args) },
	}
	prune := &cobra.Command{
		Use: "prune", Short: "remove built images that are not listed any more", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := images.NewBuilder(os.Stderr)
			if err != nil {
				return err
			}
			return b.Prune()
		},
	}
	for _, c := range []*cobra.Command{push, tag} {
		f := c.Flags()
		f.StringVar(&o.registry.Host, "registry", "registry.test:5000", "name and port of the registry")
		f.StringVar(&o.registry.CA, "ca", "", "file of certificates to trust beside the system's")
		f.BoolVar(&o.registry.Plain, "plain", false, "speak HTTP without TLS")
		f.StringVar(&o.registry.User, "user", "", "user name for basic authentication")
		f.StringVar(&o.registry.Password, "password", "", "password for basic authentication")
	}
	for _, c := range []*cobra.Command{list, build, push, storage} {
		c.Flags().BoolVar(&o.bench, "bench", false, "include the large images for benchmarks")
	}
	root.AddCommand(list, build, push, tag, storage, prune)
	return root
}

// chosen are the images the arguments name; none means all.
func (o *options) chosen(args []string) ([]images.Image, error) {
	switch {
	case len(args) > 0:
		return images.Select(args...)
	case o.bench:
		return images.Catalogue(), nil
	}
	return images.Default(), nil
}

func (o *options) list(out io.Writer, args []string) error {
	list, err := o.chosen(args)
	if err != nil {
		return err
	}
	for _, i := range list {
		fmt.Fprintf(out, "%-28s %-20s %s\n", i.Name(), strings.Join(i.Tags[1:], ","), i.Why)
	}
	return nil
}

// each builds the chosen images and hands them to do.
func (o *options) each(args []string, do func(*images.Builder, images.Image) error) error {
	list, err := o.chosen(args)
	if err != nil {
		return err
	}
	b, err := images.NewBuilder(os.Stderr)
	if err != nil {
		return err
	}
	for _, i := range list {
		if err := do(b, i); err != nil {
			return err
		}
	}
	return nil
}

func (o *options) build(ctx context.Context, out io.Writer, args []string) error {
	return o.each(args, func(b *images.Builder, i images.Image) error {
		index, err := b.Build(ctx, i)
		if err != nil {
			return err
		}
		m, err := index.IndexManifest()
		if err != nil {
			return err
		}
		for _, d := range m.Manifests {
			fmt.Fprintf(out, "%s %s %s\n", i.Name(), d.Platform.Architecture, d.Digest)
		}
		return nil
	})
}

func (o *options) push(ctx context.Context, out io.Writer, args []string) error {
	return o.each(args, func(b *images.Builder, i images.Image) error {
		fmt.Fprintf(out, "%s/%s\n", o.registry.Host, i.Name())
		return b.Push(ctx, o.registry, i)
	})
}

func (o *options) storage(ctx context.Context, out io.Writer, args []string) error {
	list, err := o.chosen(args)
	if err != nil {
		return err
	}
	b, err := images.NewBuilder(os.Stderr)
	if err != nil {
		return err
	}
	dir, err := b.Storage(ctx, list)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, dir)
	return nil
}
