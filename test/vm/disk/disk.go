// SPDX-License-Identifier: Apache-2.0

// Package disk is a block device with a volatile write cache, as real disks
// have one: what the guest wrote and did not flush is lost, in part and in any
// order, when the power goes. A QEMU that is killed loses nothing that it has
// already written to a file, so it cannot show a missing flush; this can.
//
// QEMU talks to it over NBD on a socket (see Serve).
package disk

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
)

// BlockSize is the unit that is written as a whole or not at all.
const BlockSize = 4096

// maxCached bounds the cache, in blocks (64 MiB). A fuller one writes back
// whatever it likes, as disks do.
const maxCached = 16 << 10

// Disk keeps flushed blocks in a file and the others in memory.
type Disk struct {
	mu    sync.Mutex
	file  *os.File
	size  int64
	cache map[int64][]byte // by block number; not flushed yet
}

// Open opens the file as a disk. Its size must be a multiple of BlockSize.
func Open(path string) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size()%BlockSize != 0 {
		err = fmt.Errorf("disk %q: %d bytes are no multiple of %d", path, info.Size(), BlockSize)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Disk{file: f, size: info.Size(), cache: map[int64][]byte{}}, nil
}

// Close closes the file. Unflushed blocks are lost.
func (d *Disk) Close() error { return d.file.Close() }

// Size is the size of the disk in bytes.
func (d *Disk) Size() int64 { return d.size }

// ReadAt reads what a guest would.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if err := d.check(len(p), off); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.file.ReadAt(p, off); err != nil {
		return 0, err
	}
	if len(d.cache) == 0 {
		return len(p), nil
	}
	d.eachBlock(len(p), off, func(block int64, lo, hi, at int) {
		if data := d.cache[block]; data != nil {
			copy(p[at:], data[lo:hi])
		}
	})
	return len(p), nil
}

// WriteAt writes to the cache.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	if err := d.check(len(p), off); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	d.eachBlock(len(p), off, func(block int64, lo, hi, at int) {
		data := d.cache[block]
		if data == nil {
			data = make([]byte, BlockSize)
			if hi-lo < BlockSize {
				if _, e := d.file.ReadAt(data, block*BlockSize); e != nil {
					err = e
					return
				}
			}
			d.cache[block] = data
		}
		copy(data[lo:hi], p[at:])
	})
	if err == nil {
		err = d.writeBack(maxCached)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush makes everything written so far survive a power cut.
func (d *Disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writeBack(0)
}

// writeBack writes blocks to the file until at most limit are cached.
func (d *Disk) writeBack(limit int) error {
	for block, data := range d.cache {
		if len(d.cache) <= limit {
			break
		}
		if _, err := d.file.WriteAt(data, block*BlockSize); err != nil {
			return err
		}
		delete(d.cache, block)
	}
	return nil
}

// Cut is a power cut: of the blocks that were not flushed, those that random
// chooses had been written by then, the others are lost. It returns how many of
// each there were.
func (d *Disk) Cut(random *rand.Rand) (kept, lost int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	blocks := make([]int64, 0, len(d.cache))
	for block := range d.cache {
		blocks = append(blocks, block)
	}
	slices.Sort(blocks) // the same seed makes the same choice
	share := random.Float64()
	for _, block := range blocks {
		if random.Float64() < share {
			if _, err := d.file.WriteAt(d.cache[block], block*BlockSize); err != nil {
				return kept, lost, err
			}
			kept++
		} else {
			lost++
		}
	}
	clear(d.cache)
	return kept, lost, nil
}

func (d *Disk) check(n int, off int64) error {
	if off < 0 || off+int64(n) > d.size {
		return fmt.Errorf("%d bytes at %d are beyond the disk's %d: %w", n, off, d.size, io.ErrUnexpectedEOF)
	}
	return nil
}

// eachBlock calls f for every block that n bytes at off touch: bytes lo to hi
// of the block are those from at on.
func (d *Disk) eachBlock(n int, off int64, f func(block int64, lo, hi, at int)) {
	for at := 0; at < n; {
		block := (off + int64(at)) / BlockSize
		lo := int((off + int64(at)) % BlockSize)
		hi := min(BlockSize, lo+n-at)
		f(block, lo, hi, at)
		at += hi - lo
	}
}
