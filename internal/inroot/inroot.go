// SPDX-License-Identifier: Apache-2.0

// Package inroot opens files below a directory that somebody else has filled,
// such as a container's root. It is openat2(2) with the part that every caller
// needs and no caller should write again: asking once more.
package inroot

import (
	"errors"

	"golang.org/x/sys/unix"
)

// maxAttempts is how often the kernel is asked. An attempt takes microseconds
// and fails only if a rename or a mount falls into them.
const maxAttempts = 10_000

// Open opens a path as if the directory were the root: neither a symbolic link
// nor ".." leads out of it. flags are those of openat2; O_CLOEXEC is added.
// resolve is added to RESOLVE_IN_ROOT. Errors are the kernel's.
//
// With a ".." on the way, the kernel answers EAGAIN if anything anywhere on the
// host was renamed or mounted meanwhile, as it cannot tell whether that has
// moved the path out of the root (openat2(2)). On a host that starts several
// containers at once that is nothing rare.
func Open(dir int, path string, flags, resolve uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_IN_ROOT}
	for range maxAttempts {
		fd, err = unix.Openat2(dir, path, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}
