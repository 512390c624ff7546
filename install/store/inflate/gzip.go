// SPDX-License-Identifier: Apache-2.0

package inflate

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

var (
	// ErrHeader is returned for input that is not gzip.
	ErrHeader = errors.New("gzip: invalid header")
	// ErrChecksum is returned when the output is not what was compressed.
	ErrChecksum = errors.New("gzip: invalid checksum")
)

// Reader decompresses gzip (RFC 1952), also several streams in a row.
type Reader struct {
	d     decoder
	crc   uint32
	size  uint32
	begun bool // a stream is being read
	err   error
}

// NewReader returns a Reader of r. It reads more of r than it needs.
func NewReader(r io.Reader) (*Reader, error) {
	z := &Reader{}
	z.d.reset(r)
	if z.err = z.header(); z.err != nil {
		if errors.Is(z.err, io.EOF) {
			z.err = io.ErrUnexpectedEOF
		}
		return nil, z.err
	}
	return z, nil
}

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	d := &z.d
	for d.rp == d.op {
		if z.err != nil {
			return 0, z.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		z.err = z.more()
	}
	n := copy(p, d.out[d.rp:d.op])
	d.rp += n
	return n, nil
}

// more decodes the next piece. It may return an error and a piece.
func (z *Reader) more() error {
	d := &z.d
	if !z.begun {
		if err := z.header(); err != nil {
			return err
		}
	}
	err := d.decode()
	z.crc = crc32.Update(z.crc, crc32.IEEETable, d.out[d.rp:d.op])
	z.size += uint32(d.op - d.rp)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return z.trailer()
	default:
		return fmt.Errorf("gzip: %w", err)
	}
}

func (z *Reader) trailer() error {
	b, err := z.next(8)
	if err != nil {
		return noEOF(err)
	}
	if le.Uint32(b) != z.crc || le.Uint32(b[4:]) != z.size {
		return ErrChecksum
	}
	z.begun = false
	return nil
}

// next returns the next n bytes of the input; io.EOF if there are none.
func (z *Reader) next(n int) ([]byte, error) {
	d := &z.d
	if err := d.fill(n); err != nil {
		return nil, err
	}
	switch have := d.end - d.ip; {
	case have == 0:
		return nil, io.EOF
	case have < n:
		return nil, io.ErrUnexpectedEOF
	}
	d.ip += n
	return d.in[d.ip-n : d.ip], nil
}

const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
)

// header reads a stream's header. It returns io.EOF if there is nothing.
func (z *Reader) header() error {
	b, err := z.next(10)
	if err != nil {
		return err
	}
	if b[0] != 0x1f || b[1] != 0x8b || b[2] != 8 {
		return ErrHeader
	}
	flags := b[3]
	sum := crc32.ChecksumIEEE(b)
	field := func(n int) ([]byte, error) {
		b, err := z.next(n)
		sum = crc32.Update(sum, crc32.IEEETable, b)
		return b, noEOF(err)
	}
	if flags&flagExtra != 0 {
		b, err := field(2)
		if err != nil {
			return err
		}
		for n := int(le.Uint16(b)); n > 0; n -= min(n, inSize) {
			if _, err := field(min(n, inSize)); err != nil {
				return err
			}
		}
	}
	for _, flag := range []byte{flagName, flagComment} {
		for n := 0; flags&flag != 0; n++ {
			b, err := field(1)
			if err != nil {
				return err
			}
			if n == nameMax {
				return ErrHeader
			}
			if b[0] == 0 {
				break
			}
		}
	}
	if flags&flagHeaderCRC != 0 {
		want := uint16(sum)
		b, err := field(2)
		if err != nil {
			return err
		}
		if le.Uint16(b) != want {
			return ErrHeader
		}
	}
	z.crc, z.size, z.begun = 0, 0, true
	z.d.begin()
	return nil
}

// nameMax is the length of a name or comment; compress/gzip has the same limit.
const nameMax = 511

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
