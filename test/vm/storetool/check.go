// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// check mounts every image that a ref names, with the kernel verifying, and
// reads all of it; then it measures every object. It prints the sound refs.
func check(dir, mnt string) error {
	s, err := store.Open(dir, store.Options{Verity: "require"})
	if err != nil {
		return err
	}
	refs, err := s.Refs()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range refs {
		if err := checkImage(dir, mnt, r.Image); err != nil {
			errs = append(errs, fmt.Errorf("ref %s/%d: %w", r.Name, r.Generation, err))
			continue
		}
		fmt.Println("sound", r.Generation, r.Image)
	}
	return errors.Join(append(errs, checkObjects(filepath.Join(dir, "objects")))...)
}

func checkImage(dir, mnt, image string) (err error) {
	if err := mountImage(dir, mnt, image); err != nil {
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

func mountImage(dir, mnt, image string) error {
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return err
	}
	res, err := mount.Mount(mount.Options{StoreDir: dir, Image: image, Target: mnt, Verity: "require"})
	if err != nil {
		return err
	}
	if !res.Enforced {
		return errors.New("the kernel does not verify the mounted image")
	}
	return nil
}

// checkObjects compares every object's digest with its name: a name must never
// be on disk before its content is, not even one that no ref leads to.
func checkObjects(objects string) error {
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
		got, err := verity.Measure(f)
		if err == nil && got.Path() != rel {
			err = fmt.Errorf("its digest is %s", got)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, f)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("object %s: %w", rel, err))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
