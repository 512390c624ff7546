// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// check mounts every image that a ref names and reads all of it; then fsck has
// its turn, and every object is compared with its name. It prints the sound refs.
func (t tool) check(mnt string) error {
	s, err := t.open()
	if err != nil {
		return err
	}
	refs, err := s.Refs()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range refs {
		if err := t.checkImage(mnt, r.Image); err != nil {
			errs = append(errs, fmt.Errorf("ref %s/%d: %w", r.Name, r.Generation, err))
			continue
		}
		fmt.Println("sound", r.Generation, r.Image)
	}
	report, err := s.Fsck(context.Background(), store.FsckOptions{})
	if err != nil {
		return err
	}
	for _, p := range report.Problems {
		errs = append(errs, fmt.Errorf("fsck: %+v", p))
	}
	return errors.Join(append(errs, t.checkObjects())...)
}

func (t tool) checkImage(mnt, image string) (err error) {
	if err := t.checkIDs(mnt, image); err != nil {
		return err
	}
	if err := t.mount(mnt, image); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Unmount(mnt)) }()
	names, err := os.ReadDir(mnt)
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(filepath.Join(mnt, name.Name()))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return err
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != name.Name() {
			return fmt.Errorf("file %s has content %s", name.Name(), got)
		}
	}
	return nil
}

// checkIDs mounts an image for a user namespace: root's files appear to be those
// of its first ID.
func (t tool) checkIDs(mnt, image string) (err error) {
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return err
	}
	const first = 1 << 20
	ids := mount.IDs{First: first, Count: 1 << 16}
	if _, err := mount.Mount(mount.Options{StoreDir: t.dir, Image: image, Target: mnt, Verity: t.policy, IDs: ids}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Unmount(mnt)) }()
	var st unix.Stat_t
	if err := unix.Stat(mnt, &st); err != nil {
		return err
	}
	if st.Uid != first || st.Gid != first {
		return fmt.Errorf("the root directory belongs to %d:%d, want %d", st.Uid, st.Gid, first)
	}
	return nil
}

func (t tool) mount(mnt, image string) error {
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return err
	}
	res, err := mount.Mount(mount.Options{StoreDir: t.dir, Image: image, Target: mnt, Verity: t.policy})
	if err != nil {
		return err
	}
	if t.policy == "require" && !res.Enforced {
		return errors.New("the kernel does not verify the mounted image")
	}
	return nil
}

// checkObjects compares every object's digest, ours and the kernel's, with its name: a name must never
// be on disk before its content is, not even one that no ref leads to.
func (t tool) checkObjects() error {
	objects := filepath.Join(t.dir, "objects")
	var errs []error
	err := filepath.WalkDir(objects, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(objects, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		got, _, err := verity.OfReader(f)
		if err == nil && got.Path() != rel {
			err = fmt.Errorf("its digest is %s", got)
		}
		if err == nil && t.policy == "require" {
			kernel, merr := verity.Measure(f)
			if err = merr; err == nil && kernel != got {
				err = fmt.Errorf("the kernel measures %s", kernel)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("object %s: %w", rel, err))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
