// SPDX-License-Identifier: Apache-2.0

package inflate

import (
	"fmt"
	"math/bits"
)

const (
	maxLit  = 288 // of the fixed code; a dynamic one has at most 286
	maxDist = 32  // of the fixed code; a dynamic one has at most 30
	dynLit  = 286
	dynDist = 30
	codeMax = 15 // bits of a code

	// The main part of a table is looked up with this many bits; a longer
	// code has a link there to a part of its own. With these bits and codes
	// of up to 15 the tables have at most 2342 and 402 entries.
	litBits  = 11
	distBits = 8
	litSize  = 4096
	distSize = 512
	lensBits = 7
	lensSize = 128
)

type (
	litTable  [litSize]uint32
	distTable [distSize]uint32
)

// An entry of a table, from the lowest bit:
//
//	8 bits  how many bits the symbol takes, with its extra bits
//	4 bits  how many of them are the code; of a link, the bits of its part
//	        flags
//	16 bits literal, base of a length or of a distance, start of a link's part
const (
	isEnd     = 1 << 13
	isLink    = 1 << 14
	isSpecial = 1 << 15 // neither literal nor match
	isLiteral = 1 << 31
	invalid   = isSpecial
)

// litSymbols and distSymbols are the entries of the symbols without their codes:
// extra bits and base.
var (
	litSymbols  [maxLit]uint32
	distSymbols [maxDist]uint32
	lensSymbols [19]uint32

	fixedLit  litTable
	fixedDist distTable
)

func init() {
	for i := range 256 {
		litSymbols[i] = isLiteral | uint32(i)<<16
	}
	litSymbols[256] = isSpecial | isEnd
	base := uint32(3)
	for i := range 28 {
		extra := uint32(max(0, i/4-1))
		litSymbols[257+i] = base<<16 | extra
		base += 1 << extra
	}
	litSymbols[285] = maxMatch << 16
	litSymbols[286], litSymbols[287] = invalid, invalid
	base = 1
	for i := range dynDist {
		extra := uint32(max(0, i/2-1))
		distSymbols[i] = base<<16 | extra
		base += 1 << extra
	}
	distSymbols[30], distSymbols[31] = invalid, invalid
	for i := range lensSymbols {
		lensSymbols[i] = uint32(i) << 16
	}

	var lens [maxLit]uint8
	for i := range lens {
		switch {
		case i < 144 || i >= 280:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		default:
			lens[i] = 7
		}
	}
	build(fixedLit[:], litBits, litSymbols[:], lens[:])
	for i := range dynDist + 2 {
		lens[i] = 5
	}
	build(fixedDist[:], distBits, distSymbols[:], lens[:maxDist])
}

// build makes the table of the code in which symbol i has lens[i] bits. It
// returns false if there is no such code. As everywhere, an incomplete code is
// accepted only if it has one symbol of one bit, or none at all.
func build(table []uint32, tableBits int, symbols []uint32, lens []uint8) bool {
	var count [codeMax + 1]int
	for _, l := range lens {
		count[l]++
	}
	used := len(lens) - count[0]
	count[0] = 0
	// offsets is where the symbols of a length begin in order.
	var offsets [codeMax + 2]int
	space, longest := 0, 0
	for l := 1; l <= codeMax; l++ {
		offsets[l+1] = offsets[l] + count[l]
		space += count[l] << (codeMax - l)
		if count[l] > 0 {
			longest = l
		}
	}
	if space != 1<<codeMax {
		if used > 1 || used == 1 && longest != 1 {
			return false
		}
		for i := range 1 << tableBits {
			table[i] = invalid
		}
	}
	var order [maxLit]uint16
	for i, l := range lens {
		if l > 0 {
			order[offsets[l]] = uint16(i)
			offsets[l]++
		}
	}

	code := 0              // canonical, most significant bit first
	next := 1 << tableBits // where the next part goes
	link, linkBits := -1, 0
	length := 0
	for k := range used {
		sym := order[k]
		l := int(lens[sym])
		code <<= l - length
		length = l
		rev := int(bits.Reverse16(uint16(code)) >> (16 - l))
		e := symbols[sym]
		if l <= tableBits {
			e += uint32(l) | uint32(l)<<8
			for i := rev; i < 1<<tableBits; i += 1 << l {
				table[i] = e
			}
		} else {
			if prefix := rev & (1<<tableBits - 1); link < 0 || prefix != link&(1<<tableBits-1) {
				// The part is as large as the codes with this prefix need.
				link, linkBits = prefix, l-tableBits
				for left := 1<<linkBits - count[l]; left > 0 && tableBits+linkBits < longest; {
					linkBits++
					left = left<<1 - count[tableBits+linkBits]
				}
				table[prefix] = isSpecial | isLink | uint32(next)<<16 | uint32(linkBits)<<8 | uint32(tableBits)
				link |= next << tableBits
				next += 1 << linkBits
			}
			l -= tableBits
			e += uint32(l) | uint32(l)<<8
			part := table[link>>tableBits:][:1<<linkBits]
			for i := rev >> tableBits; i < len(part); i += 1 << l {
				part[i] = e
			}
		}
		count[length]--
		code++
	}
	return true
}

// fixed installs the code of blocks that bring none.
func (d *decoder) fixed() {
	d.lit, d.dist = fixedLit, fixedDist
}

// lensOrder is the order in which a header has the lengths of the code for
// lengths.
var lensOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the code that a block brings. All of the header is available.
func (d *decoder) dynamic() error {
	d.refill()
	nlit, ndist, nlens := d.take(5)+257, d.take(5)+1, d.take(4)+4
	if nlit > dynLit || ndist > dynDist {
		return fmt.Errorf("%w: too many symbols", ErrCorrupt)
	}
	var lens [19]uint8
	for i := range nlens {
		d.refill()
		lens[lensOrder[i]] = uint8(d.take(3))
	}
	var table [lensSize]uint32
	if !build(table[:], lensBits, lensSymbols[:], lens[:]) {
		return fmt.Errorf("%w: bad code for lengths", ErrCorrupt)
	}
	for i := 0; i < nlit+ndist; {
		d.refill()
		e := table[d.bb&(1<<lensBits-1)]
		if e&isSpecial != 0 {
			return fmt.Errorf("%w: unknown code for a length", ErrCorrupt)
		}
		d.drop(uint(e & 0xff))
		var again uint8
		var n int
		switch sym := e >> 16; sym {
		case 16:
			if i == 0 {
				return fmt.Errorf("%w: nothing to repeat", ErrCorrupt)
			}
			again, n = d.lens[i-1], 3+d.take(2)
		case 17:
			n = 3 + d.take(3)
		case 18:
			n = 11 + d.take(7)
		default:
			again, n = uint8(sym), 1
		}
		if i+n > nlit+ndist {
			return fmt.Errorf("%w: too many lengths", ErrCorrupt)
		}
		for range n {
			d.lens[i] = again
			i++
		}
	}
	if !build(d.lit[:], litBits, litSymbols[:nlit], d.lens[:nlit]) ||
		!build(d.dist[:], distBits, distSymbols[:ndist], d.lens[nlit:nlit+ndist]) {
		return fmt.Errorf("%w: bad code", ErrCorrupt)
	}
	return nil
}
