// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/install/systemd"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

type runOptions struct {
	fetchOptions
	name, storage          string
	set, grants            []string
	add                    unitgen.Options
	detach, transient, tty bool
}

func newRunCommand(g *globals) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] CONTAINER|IMAGE [COMMAND [ARGUMENT...]]",
		Short: "Start a container, run a command in it, or run an image once",
		Long: "Without a command, start an installed container. With one, run the command in it: in the\n" +
			"container that runs, or else in one like it of the command's own. The exit code is the\n" +
			"command's.\n\n" +
			"If no container has that name, fetch the image and run it once, without installing it;\n" +
			"nothing stays behind. --transient runs it as the service that it would be if it were\n" +
			"installed.",
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return runRun(cmd.Context(), g, o, a[0], a[1:]) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.name, "name", "n", "", "name of an image's run")
	f.StringArrayVar(&o.set, "set", nil, "give a template variable a value, `NAME=VALUE`; can be repeated")
	f.StringArrayVar(&o.grants, "grant", nil, "allow the container a `PERMISSION` on the host; can be repeated")
	f.BoolVarP(&o.detach, "detach", "d", false, "do not wait; output goes to the journal")
	f.BoolVar(&o.transient, "transient", false, "run an image as a service until it stops")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal (it has one if standard input is one)")
	f.BoolP("interactive", "i", false, "accepted; standard input is always connected")
	g.jsonFlag(f)
	additionFlags(f, &o.add)
	storageFlag(f, &o.storage)
	o.flags(f, install.Missing)
	return cmd
}

func runRun(ctx context.Context, g *globals, o *runOptions, what string, command []string) error {
	if err := checkStorage(o.storage); err != nil {
		return err
	}
	a, err := g.agentSaying(g.Err)
	if err != nil {
		return err
	}
	defer a.Close()
	if !a.Installed(what) {
		return o.image(ctx, g, a, what, command)
	}
	switch {
	case o.name != "" || o.transient || len(o.set)+len(o.grants) > 0:
		return &usageError{errors.New("--name, --transient, --set and --grant are for images; " + what + " is installed")}
	case len(command) == 0:
		if err := a.Start(ctx, what); err != nil {
			return err
		}
		return g.result(done{Name: what, Status: started}, "Started %s", what)
	}
	if err := o.checkJSON(g); err != nil {
		return err
	}
	running, err := a.Running(ctx, what)
	if err != nil {
		return err
	}
	tty := !o.detach && (o.tty || g.interactive())
	if running && o.detach && g.json {
		return hint.New(&usageError{errors.New("a command that runs in a running container has no result to print")}, "leave --json out")
	}
	if running {
		return runExec(g, execOptions{tty: tty, detach: o.detach}, append([]string{what}, command...))
	}
	return o.once(ctx, g, a, install.OnceOptions{Container: what, Args: command, Terminal: tty})
}

const started = "started"

// checkJSON refuses --json for a command in the foreground: standard output is
// the command's, and its exit code is the result.
func (o *runOptions) checkJSON(g *globals) error {
	if g.json && !o.detach && !o.transient {
		return hint.New(&usageError{errors.New("--json excludes a command that runs in the foreground: the output is the command's")}, "leave --json out, or use --detach")
	}
	return nil
}

// image runs an image that is not installed.
func (o *runOptions) image(ctx context.Context, g *globals, a *install.Agent, name string, command []string) error {
	if err := o.checkJSON(g); err != nil {
		return err
	}
	set, err := install.ParseSet(o.set)
	if err != nil {
		return err
	}
	src, err := o.source(g, name)
	if err != nil {
		return err
	}
	src.Progress = g.progressOn(g.Err)
	tty := !o.detach && !o.transient && (o.tty || g.interactive())
	var run install.OnceOptions
	_, err = g.withGrants(o.grants, func(grants []string) (*install.Result, error) {
		run = install.OnceOptions{
			Source: src, Name: o.name, Args: command, Set: set, Grants: grants, Add: o.add, Terminal: tty, Service: o.transient,
		}
		return nil, o.once(ctx, g, a, run)
	})
	return err
}

// once runs what is not installed and removes what is left of it.
func (o *runOptions) once(ctx context.Context, g *globals, a *install.Agent, what install.OnceOptions) (err error) {
	once, err := a.Once(ctx, what)
	if err != nil {
		return err
	}
	if o.detach || o.transient {
		if err := a.StartOnce(ctx, once); err != nil {
			return errors.Join(err, once.Remove())
		}
		once.Started()
		return g.result(done{Name: once.Name, Status: started}, "%s", once.Name)
	}
	defer func() { err = errors.Join(err, once.Remove()) }()
	var code int
	if what.Terminal {
		code, err = runOnTerminal(ctx, g, a, once)
	} else {
		in, done := notTerminal(g.In)
		defer done()
		code, err = a.RunOnce(ctx, once, systemd.Streams{In: in, Out: hideTerminal(g.Out), Err: hideTerminal(g.Err)})
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return exitStatus(128 + int(syscall.SIGINT))
	case code != 0:
		return exitStatus(code)
	}
	return nil
}

// exitStatus is the exit code of a command that was run.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit code %d", int(e)) }
func (e exitStatus) Unwrap() error { return errSilent }

// notTerminal puts a pipe in the place of a terminal: whoever holds one can
// make its owner type commands.
func notTerminal(in io.Reader) (stream io.Reader, done func()) {
	nothing := func() {}
	if !isTerminal(in) {
		return in, nothing
	}
	r, w, err := os.Pipe()
	if err != nil {
		return strings.NewReader(""), nothing
	}
	go func() { // ends with the program: nobody can interrupt the read
		_, _ = io.Copy(w, in)
		_ = w.Close()
	}()
	return r, func() { _ = r.Close() }
}

// hideTerminal likewise: what is no file reaches a command through a pipe.
func hideTerminal(out io.Writer) io.Writer {
	if isTerminal(out) {
		return struct{ io.Writer }{out}
	}
	return out
}
