// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// sealedCopy copies the image into memory that cannot be written any more and
// checks what is in there: what is checked is what is mounted.
func sealedCopy(image *os.File, want verity.Digest) (_ *os.File, err error) {
	fd, err := unix.MemfdCreate("atomic-image", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	m := os.NewFile(uintptr(fd), "atomic-image")
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	size, err := image.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if err := copyParallel(m, image, size); err != nil {
		return nil, fmt.Errorf("copy image to memory: %w", err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(m.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal memfd: %w", err)
	}
	got, err := digestOf(fd, int(size))
	if err != nil {
		return nil, err
	}
	if got != want {
		return nil, hint.New(fmt.Errorf("%w: its content has the digest %s", ErrVerity, got),
			"the store was tampered with or is damaged, see: atomic store fsck")
	}
	return m, nil
}

// digestOf hashes a file in memory where it is.
func digestOf(fd, size int) (verity.Digest, error) {
	if size == 0 {
		return verity.Of(nil), nil
	}
	b, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return verity.Digest{}, fmt.Errorf("map memfd: %w", err)
	}
	d := verity.OfParallel(b)
	if err := unix.Munmap(b); err != nil {
		return d, fmt.Errorf("unmap memfd: %w", err)
	}
	return d, nil
}

// copyParallel copies size bytes, a part of them on each processor.
func copyParallel(to io.WriterAt, from io.ReaderAt, size int64) error {
	parts := int64(runtime.GOMAXPROCS(0))
	errs := make([]error, parts)
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			begin, end := size*i/parts, size*(i+1)/parts
			// The wrappers hide the files' ReadFrom and WriteTo, whose
			// splice(2) an old kernel refuses for a memfd.
			_, errs[i] = io.CopyBuffer(struct{ io.Writer }{io.NewOffsetWriter(to, begin)},
				struct{ io.Reader }{io.NewSectionReader(from, begin, end-begin)}, make([]byte, 64<<10))
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// attachLoop returns a read-only loop device over f that detaches itself.
func attachLoop(f *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, hint.New(err, "the kernel module loop is needed: modprobe loop")
	}
	defer control.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free one: %w", err)
		}
		dev, err := openLoop(n)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{
			Fd:   uint32(f.Fd()),
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR},
		}
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) { // else somebody was faster
			return nil, fmt.Errorf("configure /dev/loop%d: %w", n, err)
		}
	}
	return nil, errors.New("no free device after 100 tries")
}

// openLoop opens /dev/loopN. Where devtmpfs is not mounted the node may be
// missing: one is then made where nobody else sees it.
func openLoop(n int) (*os.File, error) {
	dev, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDONLY, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return dev, err
	}
	c, err := fsopen("tmpfs")
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.check("create", unix.FsconfigCreate(c.fd)); err != nil {
		return nil, fmt.Errorf("tmpfs: %w", err)
	}
	dirFD, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fsmount tmpfs: %w", err)
	}
	dir := os.NewFile(uintptr(dirFD), "tmpfs")
	defer dir.Close()
	const loopMajor = 7
	if err := unix.Mknodat(dirFD, "loop", unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil {
		return nil, fmt.Errorf("make node for loop%d: %w", n, err)
	}
	fd, err := unix.Openat(dirFD, "loop", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open loop%d: %w", n, err)
	}
	return os.NewFile(uintptr(fd), "loop"+strconv.Itoa(n)), nil
}
