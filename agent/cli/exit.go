// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atomic-agent/atomic/install"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/tpm"
	"github.com/atomic-agent/atomic/tpm/verify"
)

// The exit codes; every man page lists those that its verb has.
const (
	exitOK           = 0
	exitError        = 1
	exitUsage        = 2
	exitNotInstalled = 3
	exitPolicy       = 4
	exitBusy         = 5
	exitPartial      = 6
	exitRolledBack   = 7
)

var (
	// errUsage is a command line that is wrong, or a question answered by no.
	errUsage = errors.New("usage")
	// errPartial says that some of several things could not be done.
	errPartial = errors.New("not everything could be done")
	// errSilent is an error that has been reported already.
	errSilent = errors.New("reported")
)

// exitCode maps an error to the program's exit code.
func exitCode(err error) int {
	var grant *install.GrantError
	var ran exitStatus
	var rejection *verify.Rejection
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &ran):
		return int(ran)
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, install.ErrNotInstalled):
		return exitNotInstalled
	case errors.As(err, &grant), errors.As(err, &rejection), errors.Is(err, trust.ErrRejected):
		return exitPolicy
	case errors.Is(err, install.ErrBusy), errors.Is(err, store.ErrBusy), errors.Is(err, tpm.ErrBusy):
		return exitBusy
	case errors.Is(err, errPartial):
		return exitPartial
	case errors.Is(err, install.ErrRolledBack):
		return exitRolledBack
	}
	return exitError
}

// usageError is errUsage with the text of its cause only.
type usageError struct{ err error }

func (e *usageError) Error() string   { return e.err.Error() }
func (e *usageError) Unwrap() []error { return []error{errUsage, e.err} }

func usage(cmd *cobra.Command, err error) error {
	return hint.New(&usageError{err}, fmt.Sprintf("Try '%s --help' for more information.", cmd.CommandPath()))
}

// args checks the number of arguments as cobra does, as a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, list []string) error {
		if err := check(cmd, list); err != nil {
			return usage(cmd, err)
		}
		return nil
	}
}
