// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atomic-agent/atomic/internal/hint"
)

var (
	// ErrNotInstalled says that there is no such container.
	ErrNotInstalled = errors.New("is not installed")
	// ErrRunOnce says that an image is to be run and not installed.
	ErrRunOnce = errors.New("is to be run once and cannot be installed")
	// ErrBusy says that another command works on the container.
	ErrBusy = errors.New("another command is at work")
	// ErrRolledBack says that a change failed after the service was touched
	// and that the container is back at what it was.
	ErrRolledBack = errors.New("rolled back")
)

// GrantError says which host permissions an image needs beyond the default
// profile.
type GrantError struct {
	Image   string
	Missing []string
	Why     map[string]string
}

func (e *GrantError) Error() string {
	return fmt.Sprintf("%s asks for permissions on the host that were not granted: %s", e.Image, strings.Join(e.Missing, ", "))
}

// Hint is the list of options to paste.
func (e *GrantError) Hint() string {
	args := make([]string, len(e.Missing))
	for i, g := range e.Missing {
		args[i] = "--grant " + quote(g)
	}
	return "to grant them, add: " + strings.Join(args, " ")
}

// quote protects a word from the shell if it needs it.
func quote(s string) string {
	for _, c := range s {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:/=@%+,", c) {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}

// nothingTo is for what only installs files on the host.
func nothingTo(verb, name string) error {
	return hint.New(fmt.Errorf("there is nothing of %s to %s", name, verb), "the image only installs files on the host")
}

func notInstalled(name string) error {
	return hint.New(fmt.Errorf("System container '%s' %w", name, ErrNotInstalled), //nolint:staticcheck // the wording is part of the contract
		"atomic containers list -a shows what is installed")
}
