// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/term"

	"github.com/atomic-agent/atomic/internal/hint"
)

// credentials completes USER[:PASSWORD] by asking for the password, which then
// is in no process list and no shell history.
func (g *globals) credentials(s string) (string, error) {
	if s == "" || strings.Contains(s, ":") {
		return s, nil
	}
	f, ok := terminal(g.In)
	if !ok {
		return "", hint.New(errors.New("--src-creds has no password and there is no terminal to ask on"), "give --src-creds USER:PASSWORD, or use auth.json (REGISTRY_AUTH_FILE)")
	}
	fmt.Fprintf(g.Err, "Password of %s: ", s)
	password, err := term.ReadPassword(int(f.Fd())) //nolint:gosec // a descriptor is small
	fmt.Fprintln(g.Err)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return s + ":" + string(password), nil
}
