// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

type execOptions struct {
	tty, detach bool
	user        string
}

func newExecCommand(g *globals) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] NAME COMMAND [ARGUMENT...]",
		Short: "Run a command in a running container",
		Long: `Run a command in a running container, with the container's confinement, as a
part of its unit. The exit code is the command's.`,
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(_ *cobra.Command, argv []string) error { return runExec(g, o, argv) },
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal")
	cmd.Flags().BoolVarP(&o.detach, "detach", "d", false, "do not wait for the command, and let it have no input and output")
	cmd.Flags().BoolP("interactive", "i", false, "accepted; standard input is always connected")
	cmd.Flags().StringVarP(&o.user, "user", "u", "", "run it as `UID[:GID]` instead of the container's user")
	return cmd
}

// runExec becomes the launcher, which can enter namespaces; this program is
// not linked with what that takes.
func runExec(g *globals, o execOptions, argv []string) error {
	launch := []string{paths.Launcher, "exec"}
	if o.tty {
		launch = append(launch, "-t")
	}
	if o.detach {
		launch = append(launch, "-d")
	}
	if o.user != "" {
		launch = append(launch, "-u", o.user)
	}
	env := os.Environ()
	if g.root != "" {
		env = append(env, "ATOMIC_ROOT="+g.root)
	}
	err := syscall.Exec(paths.Launcher, append(launch, argv...), env)
	return hint.New(fmt.Errorf("run %s: %w", paths.Launcher, err), "it is a part of the atomic package: install that again")
}
