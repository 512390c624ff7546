// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// BenchmarkMount mounts an image of 13000 files, from memory and as it is done
// where the kernel verifies the image.
func BenchmarkMount(b *testing.B) {
	privateMounts(b)
	dir, image := storeOf(b, func(_ *store.Txn, tr *tree.Tree) {
		for i := range 13000 {
			name := fmt.Sprintf("directory-%d/file-%d", i/100, i)
			if i%100 == 0 {
				if err := tr.AddMountPoint("/"+filepath.Dir(name), true); err != nil {
					b.Fatal(err)
				}
			}
			tr.Lookup(filepath.Dir(name)).SetChild(filepath.Base(name), &tree.Node{
				Mode: unix.S_IFREG | 0o644, Sec: int64(i), Size: 100 + uint64(i), Source: tree.SourceObject, Digest: verity.Digest(sha256.Sum256([]byte(name))),
			})
		}
	})
	o := mount.Options{StoreDir: dir, Image: image, Target: b.TempDir()}
	unmount := func() {
		if err := mount.Unmount(o.Target); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("memory", func(b *testing.B) {
		privateMounts(b)
		for b.Loop() {
			if _, err := mount.Mount(o); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			unmount()
			b.StartTimer()
		}
	})
	b.Run("verified", func(b *testing.B) {
		privateMounts(b)
		for b.Loop() {
			if err := mount.MountUnchecked(o); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			unmount()
			b.StartTimer()
		}
	})
}
