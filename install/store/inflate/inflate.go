// SPDX-License-Identifier: Apache-2.0

// Package inflate decompresses gzip streams about twice as fast as the usual
// packages do. Most layers are gzip, and decompression is what an import waits
// for.
//
// The speed comes from a 64-bit bit buffer that is filled with one load, from
// tables that answer most symbols with one look, and from decoding into one
// large buffer, which is also the window. There is no unsafe code: whatever the
// input is, the worst is a panic or a wrong byte, and the checksum finds wrong
// bytes. The tests compare with compress/flate.
package inflate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt is returned for input that is not a deflate stream.
var ErrCorrupt = errors.New("corrupt deflate stream")

const (
	windowSize = 32 << 10
	chunkSize  = 128 << 10
	// What one turn of the loop can write behind the end of the chunk: two
	// literals, a match, and the rest of the last eight bytes copied.
	outSlack = 2 + maxMatch + 8
	maxMatch = 258

	inSize = 64 << 10
	// No header of a block is longer.
	headerMax = 640
	// Behind the input there are zeros. What is consumed of them is noticed,
	// but only after a header or a turn of the loop.
	inSlack = headerMax + 32
	// As long as this much input is left, no turn can consume all of it.
	inTurn = 16
)

var le = binary.LittleEndian

// state says what comes next in the stream.
type state uint8

const (
	atHeader state = iota
	inStored
	inBlock
	atEnd
)

// decoder decodes one deflate stream after the other.
type decoder struct {
	src io.Reader
	// srcErr is what src returned last, io.EOF at its end.
	srcErr error

	// in[ip:end] is input that is not in the bit buffer. The low nb bits of
	// bb count; the bits above are either zero or those of the input, too.
	ip, end int
	bb      uint64
	nb      uint

	// out[rp:op] is output that nobody has taken. out[start:op] is what a
	// match may refer to.
	start, rp, op int

	state  state
	last   bool // the block is the stream's last
	stored int  // bytes left of a stored block

	lit  litTable
	dist distTable
	lens [maxLit + maxDist]uint8

	in  [inSize + inSlack]byte
	out [windowSize + chunkSize + outSlack]byte
}

func (d *decoder) reset(src io.Reader) {
	d.src, d.srcErr = src, nil
	d.ip, d.end, d.bb, d.nb = 0, 0, 0, 0
	d.rp, d.op = windowSize, windowSize
	d.begin()
}

// begin starts a stream where the one before ended.
func (d *decoder) begin() {
	d.start, d.state, d.last = d.op, atHeader, false
}

// decode decodes until there is output, and as much as fits. Output that was
// not taken is lost. At the end of the stream it returns io.EOF, with what
// follows in the input.
func (d *decoder) decode() error {
	d.slide()
	d.rp = d.op
	for d.op < windowSize+chunkSize {
		var err error
		switch d.state {
		case atHeader:
			err = d.header()
		case inStored:
			err = d.copyStored()
		case inBlock:
			err = d.block()
		case atEnd:
			if d.op == d.rp {
				return io.EOF
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// slide moves the window to the front.
func (d *decoder) slide() {
	if d.op < windowSize+chunkSize/2 {
		return
	}
	by := d.op - windowSize
	copy(d.out[:windowSize], d.out[by:d.op])
	d.op, d.start = windowSize, max(0, d.start-by)
}

// fill makes n bytes of input available, or all that there is.
func (d *decoder) fill(n int) error {
	if d.end-d.ip >= n || d.srcErr != nil {
		return d.readErr()
	}
	// The bytes in the bit buffer stay, too: they may be given back.
	keep := min(d.ip, 8)
	d.end = copy(d.in[:], d.in[d.ip-keep:d.end])
	d.ip = keep
	for d.end-d.ip < n && d.end < inSize && d.srcErr == nil {
		var got int
		got, d.srcErr = d.src.Read(d.in[d.end:inSize])
		d.end += got
	}
	clear(d.in[d.end : d.end+inSlack])
	return d.readErr()
}

func (d *decoder) readErr() error {
	if d.srcErr != nil && d.srcErr != io.EOF { //nolint:errorlint // a Reader returns io.EOF itself
		return d.srcErr
	}
	return nil
}

// refill makes at least 56 bits available; behind the end they are zeros.
func (d *decoder) refill() {
	d.bb |= le.Uint64(d.in[d.ip:]) << (d.nb & 63)
	d.ip += int((63 - d.nb) >> 3)
	d.nb |= 56
}

func (d *decoder) drop(n uint) {
	d.bb >>= n & 63
	d.nb -= n
}

// take returns the next n bits of those that refill made available.
func (d *decoder) take(n uint) int {
	v := d.bb & (1<<n - 1)
	d.drop(n)
	return int(v)
}

// overrun reports whether more was consumed than there is.
func (d *decoder) overrun() bool { return d.ip-int(d.nb>>3) > d.end }

// align goes to the next byte and gives back what the bit buffer has.
func (d *decoder) align() error {
	d.ip -= int(d.nb >> 3)
	d.bb, d.nb = 0, 0
	if d.ip > d.end {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// header reads the header of a block.
func (d *decoder) header() error {
	if d.last {
		d.state = atEnd
		return d.align()
	}
	if err := d.unread(headerMax); err != nil {
		return err
	}
	d.refill()
	d.last = d.take(1) == 1
	var err error
	switch kind := d.take(2); kind {
	case 0:
		err = d.beginStored()
	case 1:
		d.state = inBlock
		d.fixed()
	case 2:
		d.state = inBlock
		err = d.dynamic()
	default:
		err = fmt.Errorf("%w: block of unknown type", ErrCorrupt)
	}
	if d.overrun() {
		return io.ErrUnexpectedEOF
	}
	return err
}

// unread puts whole bytes of the bit buffer back and makes n bytes available.
func (d *decoder) unread(n int) error {
	d.ip -= int(d.nb >> 3)
	d.nb &= 7
	d.bb &= 1<<d.nb - 1
	return d.fill(n)
}

func (d *decoder) beginStored() error {
	if err := d.align(); err != nil {
		return err
	}
	if err := d.fill(4); err != nil {
		return err
	}
	if d.end-d.ip < 4 {
		return io.ErrUnexpectedEOF
	}
	n := le.Uint16(d.in[d.ip:])
	if n != ^le.Uint16(d.in[d.ip+2:]) {
		return fmt.Errorf("%w: bad length of a stored block", ErrCorrupt)
	}
	d.ip += 4
	d.stored, d.state = int(n), inStored
	return nil
}

func (d *decoder) copyStored() error {
	if d.stored == 0 {
		d.state = atHeader
		return nil
	}
	if err := d.fill(1); err != nil {
		return err
	}
	if d.ip == d.end {
		return io.ErrUnexpectedEOF
	}
	n := min(d.stored, d.end-d.ip, windowSize+chunkSize-d.op)
	copy(d.out[d.op:], d.in[d.ip:d.ip+n])
	d.op += n
	d.ip += n
	d.stored -= n
	return nil
}

// block decodes symbols until the block ends or the chunk is full. A turn of
// the loop is up to two literals and then a literal, a match or the end.
func (d *decoder) block() (err error) {
	// The compiler keeps these in registers.
	in, out, lit, dist := &d.in, &d.out, &d.lit, &d.dist
	ip, bb, nb, op := d.ip, d.bb, d.nb, d.op
	limit, start := d.end-inTurn, d.start
	good := op // where the turn began, once it can be one too many
	defer func() {
		if err != nil && ip > d.end {
			// What was decoded last was not all there.
			op, err = good, io.ErrUnexpectedEOF
		}
		d.ip, d.bb, d.nb, d.op = ip, bb, nb, op
	}()

	for op < windowSize+chunkSize {
		if ip > limit {
			if d.srcErr == nil {
				d.ip = ip
				err = d.fill(inTurn + 1)
				ip, limit = d.ip, d.end-inTurn
				if err != nil {
					return err
				}
			}
			if ip-int(nb>>3) > d.end {
				return io.ErrUnexpectedEOF
			}
			good = op
		}
		bb |= le.Uint64(in[ip:ip+8]) << (nb & 63)
		ip += int((63 - nb) >> 3)
		nb |= 56

		e := lit[bb&(1<<litBits-1)]
		if e&isLiteral != 0 {
			bb >>= e & 63
			nb -= uint(e & 0xff)
			out[op] = byte(e >> 16)
			op++
			e = lit[bb&(1<<litBits-1)]
			if e&isLiteral != 0 {
				bb >>= e & 63
				nb -= uint(e & 0xff)
				out[op] = byte(e >> 16)
				op++
				e = lit[bb&(1<<litBits-1)]
				if e&isLiteral != 0 {
					bb >>= e & 63
					nb -= uint(e & 0xff)
					out[op] = byte(e >> 16)
					op++
					continue
				}
			}
		}
		if e&isSpecial != 0 {
			if e&isLink != 0 {
				bb >>= litBits
				nb -= litBits
				e = lit[(e>>16+uint32(bb)&(1<<(e>>8&15)-1))&(litSize-1)]
				if e&isLiteral != 0 {
					bb >>= e & 63
					nb -= uint(e & 0xff)
					out[op] = byte(e >> 16)
					op++
					continue
				}
			}
			if e&isEnd != 0 {
				bb >>= e & 63
				nb -= uint(e & 0xff)
				d.state = atHeader
				if ip-int(nb>>3) > d.end {
					return io.ErrUnexpectedEOF
				}
				return nil
			}
			if e&isSpecial != 0 {
				return fmt.Errorf("%w: unknown length", ErrCorrupt)
			}
		}
		// A match: at least 56-3*11 bits were there for its length.
		length := int(e>>16) + int(bb&(1<<(e&63)-1)>>(e>>8&15))
		bb >>= e & 63
		nb -= uint(e & 0xff)
		if nb < 32 {
			bb |= le.Uint64(in[ip:ip+8]) << (nb & 63)
			ip += int((63 - nb) >> 3)
			nb |= 56
		}
		e = dist[bb&(1<<distBits-1)]
		if e&isSpecial != 0 {
			if e&isLink != 0 {
				bb >>= distBits
				nb -= distBits
				e = dist[(e>>16+uint32(bb)&(1<<(e>>8&15)-1))&(distSize-1)]
			}
			if e&isSpecial != 0 {
				return fmt.Errorf("%w: unknown distance", ErrCorrupt)
			}
		}
		from := op - int(e>>16) - int(bb&(1<<(e&63)-1)>>(e>>8&15))
		bb >>= e & 63
		nb -= uint(e & 0xff)
		if from < start {
			return fmt.Errorf("%w: distance beyond the start", ErrCorrupt)
		}
		to := op + length
		switch {
		case op-from >= 8:
			// Whole words, and what is too much is overwritten later.
			for {
				le.PutUint64(out[op:op+8], le.Uint64(out[from:from+8]))
				op += 8
				from += 8
				if op >= to {
					break
				}
			}
		case op-from == 1:
			word := uint64(out[from]) * 0x0101010101010101
			for ; op < to; op += 8 {
				le.PutUint64(out[op:op+8], word)
			}
		default:
			for ; op < to; op++ {
				out[op] = out[from]
				from++
			}
		}
		op = to
	}
	return nil
}
