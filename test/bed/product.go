// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/atomic-agent/atomic/internal/hint"
)

// RepoRoot returns the top of the repository: the nearest directory with a
// go.mod, from the working directory up.
func RepoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("not inside the repository: no go.mod found")
		}
		dir = filepath.Dir(dir)
	}
}

// installProduct installs the repository's build into a layer of this bed, as
// its package would.
func (b *Bed) installProduct(ctx context.Context) error {
	root, err := RepoRoot()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "bin/atomic")); err != nil {
		return hint.New(fmt.Errorf("install product: %w", err), "run make build first")
	}
	layer := b.path("product")
	cmd := exec.CommandContext(ctx, "make", "--silent", "--no-print-directory", "-C", root, "install", "DESTDIR="+layer)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install product: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	b.opts.Layers = append([]string{layer}, b.opts.Layers...)
	return nil
}

func tiedAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}
