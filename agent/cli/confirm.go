// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/internal/hint"
)

// confirm asks before something is removed, unless --assumeyes was given.
// Anything but a yes is errUsage.
func (g *globals) confirm() error {
	if g.assumeYes {
		return nil
	}
	return g.ask("Confirm (y/N) ")
}

func (g *globals) ask(question string) error {
	fmt.Fprint(g.talk(), question)
	line, _ := bufio.NewReader(g.In).ReadString('\n') // no line is a no
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return &usageError{errors.New("aborted")}
}

// interactive reports whether a person can be asked.
func (g *globals) interactive() bool { return isTerminal(g.In) && isTerminal(g.Out) }

func isTerminal(stream any) bool {
	_, ok := terminal(stream)
	return ok
}

// terminal returns the file that a stream is, if that is a terminal.
func terminal(stream any) (f *os.File, ok bool) {
	f, ok = stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd())) //nolint:gosec // a descriptor is small
}

// withGrants runs a change and, if it wants permissions on the host that nobody
// has granted, asks the person at the terminal for them. --assumeyes is no
// answer to that: what an image may do to the host is granted by name.
func (g *globals) withGrants(grants []string, change func(grants []string) (*install.Result, error)) (*install.Result, error) {
	res, err := change(grants)
	var missing *install.GrantError
	if !errors.As(err, &missing) || !g.interactive() {
		return res, err
	}
	fmt.Fprintf(g.talk(), "%s asks for permissions on the host:\n", missing.Image)
	for _, p := range missing.Missing {
		fmt.Fprintf(g.talk(), "  %s (%s)\n", p, missing.Why[p])
	}
	if g.ask("Grant them (y/N) ") != nil {
		return res, err
	}
	return change(append(grants, missing.Missing...))
}

// storageFlag defines the option by which the original chooses between its
// storages.
func storageFlag(f *pflag.FlagSet, storage *string) {
	f.StringVar(storage, "storage", "", "accepted: ostree, the original's name for what is the only storage here")
}

func checkStorage(storage string) error {
	if storage == "" || storage == backend {
		return nil
	}
	return hint.New(fmt.Errorf("there is no storage %q", storage), "there is one only; leave --storage out")
}
