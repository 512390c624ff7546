// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/verity"
)

// Commit publishes the transaction: objects first, then their names, then refs
// and tags, with everything on disk before anything refers to it. If it fails,
// what was published already is garbage that the next gc removes.
func (t *Txn) Commit() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return errors.New("commit: the transaction has ended")
	}
	if err := t.publish(); err != nil {
		return fmt.Errorf("commit: %w", t.s.explain(err))
	}
	t.end()
	return nil
}

func (t *Txn) publish() error {
	if err := t.ctx.Err(); err != nil {
		return context.Cause(t.ctx)
	}
	if len(t.staged)+len(t.links) > 0 {
		if err := unix.Syncfs(int(t.hold.Fd())); err != nil {
			return fmt.Errorf("sync objects: %w", err)
		}
		if err := t.publishObjects(); err != nil {
			return err
		}
		for name, d := range t.links {
			if err := t.symlink(name, "../objects/"+d.Path()); err != nil {
				return err
			}
		}
		if err := unix.Syncfs(int(t.hold.Fd())); err != nil {
			return fmt.Errorf("sync store: %w", err)
		}
	}
	return t.publishNames()
}

// publishObjects gives the staged objects their place: a whole directory at once
// where there is none, which is all of them in a new store, else one by one.
func (t *Txn) publishObjects() error {
	var whole [256]bool
	for i, made := range t.shards {
		if !made {
			continue
		}
		name := verity.Digest{byte(i)}.Path()[:2]
		switch err := unix.Renameat(int(t.hold.Fd()), name, unix.AT_FDCWD, t.s.path("objects", name)); {
		case err == nil:
			whole[i], t.shards[i] = true, false
		case !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST):
			return &os.LinkError{Op: "rename", Old: filepath.Join(t.dir, name), New: t.s.path("objects", name), Err: err}
		}
	}
	for d := range t.staged {
		if whole[d[0]] {
			continue
		}
		name, to := d.Path(), t.s.objectPath(d)
		if err := unix.Renameat(int(t.hold.Fd()), name, unix.AT_FDCWD, to); err != nil {
			return &os.LinkError{Op: "rename", Old: filepath.Join(t.dir, name), New: to, Err: err}
		}
	}
	return nil
}

// publishNames writes sidecars and tags, then refs.
func (t *Txn) publishNames() error {
	dirs := map[string]bool{}
	for name, content := range t.files {
		if err := os.MkdirAll(filepath.Dir(t.s.path(name)), 0o755); err != nil {
			return err
		}
		tmp := filepath.Join(t.dir, "file")
		f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		if err := writeAndClose(f, content); err != nil {
			return err
		}
		if err := os.Rename(tmp, t.s.path(name)); err != nil {
			return err
		}
		dirs[filepath.Dir(name)] = true
	}
	for name, image := range t.refs {
		if err := t.symlink(name, "../../images/"+image); err != nil {
			return err
		}
		dirs[filepath.Dir(name)], dirs["refs"] = true, true
	}
	for dir := range dirs {
		if err := syncDir(t.s.path(dir)); err != nil {
			return err
		}
	}
	return nil
}

// symlink replaces name atomically.
func (t *Txn) symlink(name, target string) error {
	if old, err := os.Readlink(t.s.path(name)); err == nil && old == target {
		return nil
	}
	tmp := filepath.Join(t.dir, "link")
	_ = os.Remove(tmp) // left by a failed attempt
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, t.s.path(name))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
