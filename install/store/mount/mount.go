// SPDX-License-Identifier: Apache-2.0

// Package mount mounts an image of the store read-only, with nothing but the
// kernel's mount API.
//
// A mounted image is an overlay of two layers: the EROFS file system with all
// metadata, and below it, data-only, the store's objects. The kernel finds the
// content of a file through an attribute of its inode, and with fs-verity it
// refuses content that is not what the image says. The image itself is checked
// here: by the kernel's measurement if it has fs-verity, else by hashing a
// private copy that nobody can change any more, which is then what is mounted.
//
// The package takes no lock and keeps no state, needs no process and no daemon,
// and is linked into the start path: keep it small.
package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// Options say what to mount where.
type Options struct {
	// StoreDir is the directory of the store.
	StoreDir string
	// Image is the fs-verity digest of the image, 64 hex digits.
	Image string
	// Target is the directory to mount on.
	Target string
	// Verity is "require" (the kernel must verify everything), "try" (it
	// verifies if it can; also when empty) or "off".
	Verity string
	// VerifyContent reads and checks every file before the image is mounted,
	// unless the kernel checks them anyway.
	VerifyContent bool
	// IDs are those of the user namespace that the image is for; its files
	// then appear with owners from there.
	IDs IDs
}

// Result says how an image was mounted.
type Result struct {
	// Enforced is true if the kernel verifies the image and every object.
	Enforced bool
	// How is "file" (the image file is mounted itself), "loop" (through a
	// loop device) or "memory" (a sealed copy in memory, through a loop device).
	How string
}

// ErrVerity is returned when fs-verity is required and not there, or when the
// image is not what its name says.
var ErrVerity = errors.New("image cannot be verified")

// Mount mounts the image. On success the caller unmounts Target some time; on
// failure nothing is left behind.
func Mount(o Options) (Result, error) {
	res, err := mount(&o)
	if err != nil {
		return Result{}, fmt.Errorf("mount image %s: %w", o.Image, err)
	}
	return res, nil
}

func mount(o *Options) (Result, error) {
	want, err := verity.Parse(o.Image)
	if err != nil {
		return Result{}, err
	}
	switch o.Verity {
	case "":
		o.Verity = "try"
	case "require", "try", "off":
	default:
		return Result{}, fmt.Errorf("verity policy %q is none of require, try, off", o.Verity)
	}
	target, err := openPath(o.Target)
	if err != nil {
		return Result{}, fmt.Errorf("open mount point: %w", err)
	}
	defer target.Close()
	image, err := openImage(o.StoreDir, want)
	if err != nil {
		return Result{}, err
	}
	defer image.Close()
	objects, err := openPath(filepath.Join(o.StoreDir, "objects"))
	if err != nil {
		return Result{}, fmt.Errorf("open objects: %w", err)
	}
	defer objects.Close()

	var res Result
	meta, err := mountMeta(image, want, o, &res)
	if err != nil {
		return Result{}, explain(err, o.StoreDir)
	}
	defer meta.Close()
	// The objects below need no mapping: nobody sees their owners.
	if err := idMap(meta, o.IDs); err != nil {
		return Result{}, explain(err, o.StoreDir)
	}
	top, err := overlay(meta, objects, "atomic:"+o.Image, res.Enforced)
	if err != nil {
		return Result{}, explain(fmt.Errorf("overlay: %w", err), o.StoreDir)
	}
	defer top.Close()
	if err := unix.MoveMount(int(top.Fd()), "", int(target.Fd()), "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return Result{}, fmt.Errorf("attach to %s: %w", o.Target, err)
	}
	return res, nil
}

// Unmount unmounts what Mount has mounted at target.
func Unmount(target string) error {
	if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
		err = fmt.Errorf("unmount %s: %w", target, err)
		if errors.Is(err, unix.EBUSY) {
			err = hint.New(err, "a process still uses it: fuser -vm "+target)
		}
		return err
	}
	return nil
}

func openPath(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// openImage opens the image file once; everything else goes through this
// descriptor. Only what has a name in images/ may be mounted: other objects
// are arbitrary data from a registry, and this is a parser in the kernel.
func openImage(store string, d verity.Digest) (*os.File, error) {
	if _, err := os.Lstat(filepath.Join(store, "images", d.String())); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = hint.New(fmt.Errorf("no such image in %s", store), "install the container again, or run: atomic store fsck")
		}
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(store, "objects", d.Path()), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = hint.New(err, "the store is damaged, see: atomic store fsck")
	}
	return f, err
}

// mountMeta checks the image and mounts it, detached.
func mountMeta(image *os.File, want verity.Digest, o *Options, res *Result) (*os.File, error) {
	got, err := verity.Measure(image)
	switch {
	case err == nil && got != want:
		return nil, hint.New(fmt.Errorf("%w: its content has the digest %s", ErrVerity, got),
			"the store was tampered with or is damaged, see: atomic store fsck")
	case err == nil:
		res.Enforced = o.Verity != "off"
		if err := o.verifyContent(image, res); err != nil {
			return nil, err
		}
		return mountFile(image, res)
	case !errors.Is(err, verity.ErrNotEnabled):
		return nil, err
	case o.Verity == "require":
		return nil, hint.New(fmt.Errorf("%w: %w", ErrVerity, err),
			"the store needs a file system with fs-verity; or install with Verity=try in /etc/atomic/atomic.conf")
	}
	sealed, err := sealedCopy(image, want)
	if err != nil {
		return nil, err
	}
	defer sealed.Close()
	if err := o.verifyContent(sealed, res); err != nil {
		return nil, err
	}
	res.How = "memory"
	return mountLoop(sealed)
}

func (o *Options) verifyContent(image *os.File, res *Result) error {
	if !o.VerifyContent || res.Enforced {
		return nil
	}
	return verifyContent(image, o.StoreDir)
}

// mountFile mounts the image file itself, or a loop device over it where the
// kernel's EROFS needs a block device (before 6.12).
func mountFile(image *os.File, res *Result) (*os.File, error) {
	res.How = "file"
	m, err := mountErofs(procPath(image))
	if errors.Is(err, unix.ENOTBLK) {
		res.How = "loop"
		return mountLoop(image)
	}
	return m, err
}

func mountLoop(f *os.File) (*os.File, error) {
	dev, err := attachLoop(f)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	// The device detaches itself when the mount, its last user, is gone.
	defer dev.Close()
	return mountErofs(procPath(dev))
}

func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// explain adds what usually is the matter.
func explain(err error, store string) error {
	if hint.Of(err) != "" {
		return err
	}
	var st unix.Statfs_t
	if unix.Statfs(store, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return hint.New(err, store+" is on an overlay file system, which cannot carry another two: "+
			"put it on a file system of its own, or bind-mount a directory of one there")
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return hint.New(err, "the kernel lacks a file system: modprobe erofs overlay loop")
	case errors.Is(err, unix.EPERM):
		return hint.New(err, "mounting needs CAP_SYS_ADMIN: run this as root")
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		return hint.New(err, "Linux 6.6 or newer is needed")
	}
	return err
}
