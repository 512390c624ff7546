// SPDX-License-Identifier: Apache-2.0

package system

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atomic-agent/atomic/test/bed"
)

// nextVersion is what the other build of atomic says it is.
const nextVersion = "next"

// next is another build of atomic, made once for all scripts.
var next struct {
	once sync.Once
	bin  string
	err  error
}

// removeNext removes the other build after all tests.
func removeNext() error {
	if next.bin == "" {
		return nil
	}
	return os.RemoveAll(next.bin)
}

func buildNext(root string) (string, error) {
	next.once.Do(func() {
		if next.bin, next.err = os.MkdirTemp("", "atomic-next"); next.err == nil {
			next.err = run(exec.Command("make", "-C", root, "build", "BIN="+next.bin, "VERSION="+nextVersion)) //nolint:noctx // one build for all scripts
		}
	})
	return next.bin, next.err
}

// upgrade replaces atomic by another build of it, or puts the first one back, as
// a package manager would: it unpacks the files over those that are there.
func (s *state) upgrade(ts *testscript.TestScript, args []string) error {
	root, err := bed.RepoRoot()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, "bin")
	switch {
	case len(args) > 0 && args[0] == nextVersion:
		if bin, err = buildNext(root); err != nil {
			return err
		}
	case len(args) > 0:
		return fmt.Errorf("there is no version %q", args[0])
	}
	dir := filepath.Join(ts.MkAbs("."), "package")
	if err := errors.Join(os.RemoveAll(dir), run(exec.CommandContext(s.ctx, "make", "-s", "-C", root, "install", "BIN="+bin, "DESTDIR="+dir))); err != nil {
		return err
	}
	var archive bytes.Buffer
	pack := exec.CommandContext(s.ctx, "tar", "-C", dir, "-c", ".")
	pack.Stdout = &archive
	if err := pack.Run(); err != nil {
		return fmt.Errorf("pack atomic: %w", err)
	}
	code, err := s.bed.Exec(s.ctx, bed.Command{
		Args:  []string{"tar", "-C", "/", "-x", "--keep-directory-symlink"},
		Stdin: &archive, Stdout: ts.Stdout(), Stderr: ts.Stderr(),
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("unpack atomic: exit code %d", code)
	}
	return err
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}
