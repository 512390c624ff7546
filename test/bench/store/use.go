// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atomic-agent/atomic/install/store/mount"
)

// mounts is how often one image is mounted for one sample.
const mounts = 20

// use measures what becomes of an import: how long mounting takes, and reading
// every file when nothing is in memory.
func (b *bench) use(ctx context.Context, dir, who string, add func(what, who string, s sample)) error {
	if who == "tar" {
		if err := b.forget(ctx); err != nil {
			return err
		}
		return coldRead(dir, "ext4", add)
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
	if err := b.forget(ctx); err != nil {
		return err
	}
	if _, err := mount.Mount(o); err != nil {
		return err
	}
	err = coldRead(target, "atomic", add)
	if uerr := mount.Unmount(target); err == nil {
		err = uerr
	}
	return err
}

// largeFile is where the time to read a file is no more that to find it.
const largeFile = 256 << 10

// coldRead reads every file below dir, with nothing of it in memory. What it
// takes beside the files is reading the directories.
func coldRead(dir, who string, add func(what, who string, s sample)) error {
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200); err != nil {
		return err
	}
	var small, large time.Duration
	buf := make([]byte, 1<<20)
	start := time.Now()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		start := time.Now()
		n, err := readFile(path, buf)
		if took := time.Since(start); n < largeFile {
			small += took
		} else {
			large += took
		}
		return err
	})
	if err != nil {
		return err
	}
	add("cold read", who, sample{wall: time.Since(start)})
	add("its small files", who, sample{wall: small})
	add("its large files", who, sample{wall: large})
	return nil
}

func readFile(path string, buf []byte) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
	if err != nil {
		return n, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}
