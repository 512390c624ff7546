// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/atomic-agent/atomic/internal/hint"
)

// Verify checks unit files as systemd reads them, before they are installed.
// files maps names below a unit directory (NAME.service,
// NAME.service.d/50-atomic.conf) to contents. Programs below one of the
// directories in later need not exist yet. A machine without systemd-analyze
// checks nothing.
func Verify(ctx context.Context, files map[string][]byte, later []string) (err error) {
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return nil // nobody to ask
	}
	dir, err := os.MkdirTemp("", "atomic-verify-")
	if err != nil {
		return fmt.Errorf("verify units: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("verify units: %w", err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil { //nolint:gosec // as unit files are
			return fmt.Errorf("verify units: %w", err)
		}
		if filepath.Dir(name) == "." {
			args = append(args, file)
		}
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	problems := complaints(string(out), dir, later)
	if len(problems) == 0 {
		return nil
	}
	return hint.New(fmt.Errorf("verify units: %s", strings.Join(problems, "; ")),
		"the image's service.template, or a value given with --set, is not a valid unit; nothing was installed")
}

// complaints picks from the output what is about the units themselves.
func complaints(out, dir string, later []string) []string {
	var list []string
lines:
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(strings.ReplaceAll(line, dir+"/", ""))
		if line == "" {
			continue
		}
		for _, d := range later {
			if strings.Contains(line, "is not executable") && strings.Contains(line, " "+d) {
				continue lines
			}
		}
		list = append(list, line)
	}
	return list
}
