// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/mount"
)

// mounts is how often one image is mounted for one sample.
const mounts = 20

// use measures what becomes of an import: how long mounting takes, and reading
// every file when nothing is in memory.
func (b *bench) use(dir, who string, add func(what, who string, s sample)) error {
	if who == "tar" {
		s, err := coldRead(dir)
		if err == nil {
			add("cold read", "ext4", s)
		}
		return err
	}
	store := filepath.Join(dir, "store")
	image, err := os.Readlink(filepath.Join(store, "refs/bench/0"))
	if err != nil {
		return err
	}
	target := filepath.Join(dir, "rootfs")
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	o := mount.Options{StoreDir: store, Image: filepath.Base(image), Target: target}
	var took time.Duration
	how := ""
	for range mounts {
		start := time.Now()
		res, err := mount.Mount(o)
		if err != nil {
			return err
		}
		took += time.Since(start)
		how = res.How
		if err := mount.Unmount(target); err != nil {
			return err
		}
	}
	add("mount", "atomic, "+how, sample{wall: took / mounts})
	if _, err := mount.Mount(o); err != nil {
		return err
	}
	s, err := coldRead(target)
	if uerr := mount.Unmount(target); err == nil {
		err = uerr
	}
	if err == nil {
		add("cold read", "atomic", s)
	}
	return err
}

// coldRead reads every file below dir, with nothing of it in memory.
func coldRead(dir string) (sample, error) {
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200); err != nil {
		return sample{}, err
	}
	buf := make([]byte, 1<<20)
	start := time.Now()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		return nil
	})
	return sample{wall: time.Since(start)}, err
}
