// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/verity"
)

// MountUnchecked makes the system calls of a mount on a file system with
// fs-verity, where the kernel has hashed the image before.
func MountUnchecked(o Options) error {
	want, err := verity.Parse(o.Image)
	if err != nil {
		return err
	}
	target, err := openPath(o.Target)
	if err != nil {
		return err
	}
	defer target.Close()
	image, err := openImage(o.StoreDir, want)
	if err != nil {
		return err
	}
	defer image.Close()
	objects, err := openPath(filepath.Join(o.StoreDir, "objects"))
	if err != nil {
		return err
	}
	defer objects.Close()
	_, _ = verity.Measure(image) // ErrNotEnabled, or the digest
	var res Result
	meta, err := mountFile(image, &res)
	if err != nil {
		return err
	}
	defer meta.Close()
	top, err := overlay(meta, objects, "atomic:"+o.Image, false)
	if err != nil {
		return err
	}
	defer top.Close()
	return unix.MoveMount(int(top.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
