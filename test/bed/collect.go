// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Journal returns the bed's journal over all its boots.
func (b *Bed) Journal(ctx context.Context) (string, error) {
	res, err := b.Run(ctx, "journalctl", "--no-pager", "--quiet", "--merge", "--output=short-precise")
	return res.Stdout, err
}

// WaitJournal waits until a unit of the bed has logged a line that matches the
// extended regular expression, in this boot.
func (b *Bed) WaitJournal(ctx context.Context, unit, pattern string) error {
	_, err := b.Run(ctx, "bash", "-c", `grep -qm1 -E -- "$2" < <(exec journalctl --boot --follow --lines=all --output=cat --unit="$1")`,
		"bash", unit, pattern)
	if err != nil {
		return fmt.Errorf("wait for %q in the journal of %s: %w", pattern, unit, err)
	}
	return nil
}

// Tamper flips one bit of a file of the bed: at the offset, or in the middle if
// that is negative. Neither permissions nor the immutable flag stop it.
func (b *Bed) Tamper(ctx context.Context, path string, offset int64) error {
	_, err := b.Run(ctx, "bash", "-euc", `
		chattr -i "$1" 2>/dev/null || :
		offset=$2
		[ "$offset" -ge 0 ] || offset=$(($(stat -c %s "$1") / 2))
		byte=$(od -An -tu1 -j "$offset" -N 1 "$1")
		printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$offset" conv=notrunc,fsync status=none
		echo 2 2>/dev/null >/proc/sys/vm/drop_caches || :`, "bash", path, fmt.Sprint(offset))
	if err != nil {
		return fmt.Errorf("tamper with %s: %w", path, err)
	}
	return nil
}

// Collect copies what helps to understand a failure into the directory dir of
// the machine: the journal, the console and cores. It returns the journal.
func (b *Bed) Collect(ctx context.Context, dir string) (journal string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	journal, jerr := b.Journal(ctx)
	if jerr != nil {
		journal = b.consoleTail()
	}
	errs := []error{
		jerr,
		os.WriteFile(filepath.Join(dir, "journal"), []byte(journal), 0o644),
		copyFile(b.path("console.log"), filepath.Join(dir, "console.log")),
	}
	cores, cerr := b.Cores()
	errs = append(errs, cerr)
	for i, core := range cores {
		errs = append(errs, copyFile(core, filepath.Join(dir, fmt.Sprintf("core.%d", i))))
	}
	return journal, errors.Join(errs...)
}

func copyFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Cores returns the paths, on the machine, of the core files that programs of
// the bed left on its disk. It is empty where the machine pipes cores to a
// handler of its own.
func (b *Bed) Cores() ([]string, error) {
	var cores []string
	for _, top := range []string{b.path("upper"), b.path("containers")} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // the bed lives: files come and go
			}
			base := d.Name()
			if d.Type().IsRegular() && (base == "core" || strings.HasPrefix(base, "core.")) && isCore(path) {
				cores = append(cores, path)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return cores, nil
}

func isCore(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // read only
	return f.Type == elf.ET_CORE
}
