// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of atomic: one file for each verb, with a
// newXCommand that declares it, an xOptions that holds its options and a runX
// that calls the packages which do the work. No verb touches the host itself.
//
// Results and progress go to standard output (with --json, progress does not),
// errors to standard error:
//
//	atomic: error: what happened
//	atomic: hint: what to do about it
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/internal/version"
)

// IO are the streams of one run.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
}

// globals are the options that every verb has.
type globals struct {
	IO
	root      string
	debug     bool
	assumeYes bool
	json      bool // what jsonFlag defines
}

// Run runs one command line and returns its exit code.
func Run(ctx context.Context, args []string, streams IO) int {
	g := &globals{IO: streams, root: os.Getenv("ATOMIC_ROOT")}
	cmd := newRootCommand(g) //nolint:contextcheck // cobra carries the context
	cmd.SetArgs(args)
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.Err)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errSilent) {
		hint.Print(streams.Err, err)
	}
	return exitCode(err)
}

func newRootCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:           "atomic",
		Short:         "Install container images as services of the host",
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(cmd, err)
	})
	f := cmd.PersistentFlags()
	f.StringVar(&g.root, "root", g.root, "work on the system below `DIR` instead of the running one (ATOMIC_ROOT)")
	f.BoolVar(&g.debug, "debug", false, "say more about what is done, on standard error")
	f.BoolVarP(&g.assumeYes, "assumeyes", "y", false, "do not ask before removing; permissions on the host are granted by --grant only")
	cmd.TraverseChildren = true // options before the verb are the program's own
	cmd.Flags().BoolP("ignore", "i", false, "accepted; nothing is ignored")
	cmd.AddCommand(
		newInstallCommand(g), newUninstallCommand(g), newContainersCommand(g), newImagesCommand(g),
		newInfoCommand(g), newVerifyCommand(g), newLintCommand(g), newCatCommand(g), newTrustCommand(g),
		newPSCommand(g), newRunCommand(g), newStopCommand(g), newUpdateCommand(g), newRollbackCommand(g),
		newExecCommand(g), newPullCommand(g), newStoreCommand(g), newMountCommand(g), newUnmountCommand(g), newDiffCommand(g),
		newAttestCommand(g), newPlanCommand(g), newSettleCommand(g), newVersionCommand(g),
	)
	return cmd
}

// host returns the places of the host that the options name.
func (g *globals) host() paths.Host {
	if g.root == "/" {
		return paths.Host{}
	}
	// The working directory is not the root that paths join.
	if abs, err := filepath.Abs(g.root); err == nil && g.root != "" {
		return paths.Host{Root: abs}
	}
	return paths.Host{Root: g.root}
}

func (g *globals) logger() *slog.Logger {
	level := slog.LevelWarn
	if g.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(g.Err, &slog.HandlerOptions{Level: level}))
}

// agent returns an agent whose progress lines are a part of the output.
func (g *globals) agent() (*install.Agent, error) { return g.agentSaying(g.talk()) }

// agentSaying returns an agent whose progress lines go to w.
func (g *globals) agentSaying(w io.Writer) (*install.Agent, error) {
	return install.New(g.host(), g.logger(), func(format string, args ...any) {
		fmt.Fprintf(w, format+"\n", args...)
	})
}

// progress shows fetching with bars on a terminal and with lines elsewhere.
func (g *globals) progress() image.Progress { return g.progressOn(g.talk()) }

func (g *globals) progressOn(w io.Writer) image.Progress {
	if f, ok := terminal(w); ok {
		return image.Bars(f)
	}
	return image.Lines(w)
}
