// SPDX-License-Identifier: Apache-2.0

// Package verity computes, enables and reads fs-verity digests.
//
// One algorithm is used everywhere: SHA-256 over a Merkle tree of 4 KiB blocks
// without salt (kernel documentation, filesystems/fsverity). The digest of a
// file is therefore a pure function of its content, and the kernel reports the
// same value for a file on which fs-verity is enabled. A Digest names every
// object of the store.
package verity

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BlockSize is the size of the blocks of data and of the Merkle tree.
const BlockSize = 4096

// Size is the length of a Digest in bytes.
const Size = sha256.Size

// ErrNotEnabled is returned by Measure for a file without fs-verity, whether
// the kernel, the file system or only this file lacks it.
var ErrNotEnabled = errors.New("fs-verity is not enabled on the file")

// ErrUnsupported is returned by Enable when the kernel or the file system
// has no fs-verity.
var ErrUnsupported = errors.New("fs-verity is not supported here")

// Digest is the fs-verity digest of a file.
type Digest [Size]byte

// String returns the 64 lower-case hex digits of d.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Path returns the place of the object named d below the objects directory:
// two hex digits, a slash and the other 62.
func (d Digest) Path() string {
	var b [2*Size + 1]byte
	hex.Encode(b[:2], d[:1])
	b[2] = '/'
	hex.Encode(b[3:], d[1:])
	return string(b[:])
}

// Parse reads the 64 hex digits of a digest. Upper case is refused: a digest
// is also a file name, and there must be one spelling only.
func Parse(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*Size {
		return d, fmt.Errorf("parse fs-verity digest %q: want %d hex digits", s, 2*Size)
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return d, fmt.Errorf("parse fs-verity digest %q: not lower-case hex", s)
		}
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return d, fmt.Errorf("parse fs-verity digest %q: %w", s, err)
	}
	return d, nil
}

// Hasher computes the digest of a stream. The zero value is ready for use;
// Write never fails.
type Hasher struct {
	size   uint64
	buf    [BlockSize]byte // an incomplete data block
	n      int
	levels []level // levels[0] holds the digests of data blocks
}

// level is one hash block of the Merkle tree that is not full yet.
type level struct {
	block [BlockSize]byte
	n     int
	total uint64 // digests ever added
}

// Reset makes the Hasher as good as new; it keeps the memory.
func (v *Hasher) Reset() {
	v.size, v.n = 0, 0
	v.levels = v.levels[:0]
}

// Write adds p to the stream.
func (v *Hasher) Write(p []byte) (int, error) {
	total := len(p)
	v.size += uint64(total)
	if v.n > 0 {
		c := copy(v.buf[v.n:], p)
		v.n += c
		p = p[c:]
		if v.n < BlockSize {
			return total, nil
		}
		v.add(0, sha256.Sum256(v.buf[:]))
		v.n = 0
	}
	for len(p) >= BlockSize {
		v.add(0, sha256.Sum256(p[:BlockSize]))
		p = p[BlockSize:]
	}
	v.n = copy(v.buf[:], p)
	return total, nil
}

// add appends one digest to level i; a full block moves up as one digest.
func (v *Hasher) add(i int, d [Size]byte) {
	if i == len(v.levels) {
		if cap(v.levels) > i {
			v.levels = v.levels[:i+1]
			v.levels[i].n, v.levels[i].total = 0, 0
		} else {
			v.levels = append(v.levels, level{})
		}
	}
	l := &v.levels[i]
	if l.n == BlockSize {
		sum := sha256.Sum256(l.block[:])
		l.n = 0
		v.add(i+1, sum)
		l = &v.levels[i]
	}
	copy(l.block[l.n:], d[:])
	l.n += Size
	l.total++
}

// Sum returns the digest of everything written so far. The Hasher must be
// Reset before it is used again.
func (v *Hasher) Sum() Digest {
	if v.n > 0 {
		clear(v.buf[v.n:])
		v.add(0, sha256.Sum256(v.buf[:]))
		v.n = 0
	}
	var root [Size]byte // an empty file has a root of zeros
	for i := 0; i < len(v.levels); i++ {
		l := &v.levels[i]
		if l.total == 0 {
			continue // OfParallel begins higher
		}
		if l.total == 1 {
			copy(root[:], l.block[:Size])
			break
		}
		clear(l.block[l.n:])
		v.add(i+1, sha256.Sum256(l.block[:]))
	}
	var desc [256]byte
	desc[0] = 1  // version
	desc[1] = 1  // SHA-256
	desc[2] = 12 // log2 of the block size
	binary.LittleEndian.PutUint64(desc[8:], v.size)
	copy(desc[16:], root[:])
	return sha256.Sum256(desc[:])
}

var hashers = sync.Pool{New: func() any { return new(Hasher) }}

// Of returns the digest of the pieces, one after the other.
func Of(pieces ...[]byte) Digest {
	h, _ := hashers.Get().(*Hasher) // there is nothing else in the pool
	defer hashers.Put(h)
	h.Reset()
	for _, b := range pieces {
		_, _ = h.Write(b) // Write never fails
	}
	return h.Sum()
}

// OfReader returns the digest of everything r yields, and how much that was.
func OfReader(r io.Reader) (Digest, int64, error) {
	var h Hasher
	n, err := io.CopyBuffer(struct{ io.Writer }{&h}, r, make([]byte, 256<<10))
	if err != nil {
		return Digest{}, n, fmt.Errorf("hash content: %w", err)
	}
	return h.Sum(), n, nil
}

// unit is the data below one hash block of the lowest level.
const unit = BlockSize / Size * BlockSize

// OfParallel is Of with every processor at work, which is what an image waits
// for that is mounted from memory.
func OfParallel(b []byte) Digest {
	if len(b) <= unit {
		return Of(b)
	}
	blocks := make([][Size]byte, (len(b)+unit-1)/unit)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(blocks)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(blocks); i = int(next.Add(1)) - 1 {
				blocks[i] = hashBlock(b[i*unit : min(len(b), (i+1)*unit)])
			}
		})
	}
	wg.Wait()
	v := Hasher{size: uint64(len(b)), levels: make([]level, 1)}
	for _, b := range blocks {
		v.add(1, b)
	}
	return v.Sum()
}

// hashBlock returns the digest of the hash block of up to a unit of data.
func hashBlock(data []byte) [Size]byte {
	var block [BlockSize]byte
	for i := 0; len(data) > 0; i += Size {
		n := min(len(data), BlockSize)
		var sum [Size]byte
		if n < BlockSize {
			var last [BlockSize]byte
			copy(last[:], data)
			sum = sha256.Sum256(last[:])
		} else {
			sum = sha256.Sum256(data[:BlockSize])
		}
		copy(block[i:], sum[:])
		data = data[n:]
	}
	return sha256.Sum256(block[:])
}

// enableArg is struct fsverity_enable_arg.
type enableArg struct {
	version, hashAlgorithm, blockSize, saltSize uint32
	saltPtr                                     uint64
	sigSize, reserved1                          uint32
	sigPtr                                      uint64
	reserved2                                   [11]uint64
}

// Enable turns fs-verity on for f, which must be open for reading only and
// open for writing nowhere. It is idempotent.
func Enable(f *os.File) error {
	arg := enableArg{version: 1, hashAlgorithm: 1, blockSize: BlockSize}
	err := ioctl(f, unix.FS_IOC_ENABLE_VERITY, unsafe.Pointer(&arg))
	switch {
	case err == nil || errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY):
		return fmt.Errorf("enable fs-verity on %s: %w", f.Name(), ErrUnsupported)
	default:
		return fmt.Errorf("enable fs-verity on %s: %w", f.Name(), err)
	}
}

// Measure asks the kernel for the digest of f. The answer is what the kernel
// checks every read of f against.
func Measure(f *os.File) (Digest, error) {
	var arg struct {
		algorithm, size uint16
		digest          [64]byte
	}
	arg.size = uint16(len(arg.digest))
	err := ioctl(f, unix.FS_IOC_MEASURE_VERITY, unsafe.Pointer(&arg))
	switch {
	case err == nil:
	case errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY):
		return Digest{}, ErrNotEnabled
	default:
		return Digest{}, fmt.Errorf("measure %s: %w", f.Name(), err)
	}
	if arg.algorithm != 1 || arg.size != Size {
		return Digest{}, fmt.Errorf("measure %s: fs-verity algorithm %d is not SHA-256", f.Name(), arg.algorithm)
	}
	return Digest(arg.digest[:Size]), nil
}

func ioctl(f *os.File, req uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(req), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
