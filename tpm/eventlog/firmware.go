// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Constants of the TCG PC Client Platform Firmware Profile.
const (
	evNoAction    = 3
	specIDMagic   = "Spec ID Event03\x00"
	sha1Size      = 20
	tcgPCRs       = 24
	maxTCGEvent   = 16 << 20
	maxTCGDigests = 8
)

// tcgAlgorithms are the banks' numbers in TCG logs.
var tcgAlgorithms = map[uint16]string{4: "sha1", 11: "sha256", 12: "sha384", 13: "sha512"}

// ReplayFirmware returns the value that a PCR had when the firmware and the
// boot loader were done, according to their log: the crypto-agile format that
// the kernel shows as binary_bios_measurements.
func ReplayFirmware(data []byte, pcr int, banks []string) (Register, error) {
	value := Zero(banks)
	err := firmwareEvents(data, pcr, func(n int, digests map[string]Hex) error {
		extend := make(Register, 0, len(banks))
		for _, b := range banks {
			d, ok := digests[b]
			if !ok {
				return fmt.Errorf("event %d has no %s digest", n, b)
			}
			extend = append(extend, Digest{b, d})
		}
		value = value.Extend(extend)
		return nil
	})
	return value, err
}

// FirmwareDigests returns what the firmware's log says a PCR was extended with.
func FirmwareDigests(data []byte, pcr int, bank string) ([]Hex, error) {
	var all []Hex
	err := firmwareEvents(data, pcr, func(_ int, digests map[string]Hex) error {
		all = append(all, digests[bank])
		return nil
	})
	return all, err
}

// firmwareEvents calls each for every event that extended the PCR.
func firmwareEvents(data []byte, pcr int, each func(n int, digests map[string]Hex) error) error {
	c := cursor{data: data}
	sizes, err := c.header()
	if err != nil {
		return fmt.Errorf("firmware log: %w", err)
	}
	for n := 1; len(c.data) > 0; n++ {
		index, kind, digests := c.u32(), c.u32(), c.digests(sizes)
		c.skip(int(c.u32()))
		if c.err != nil {
			return fmt.Errorf("firmware log: event %d: %w", n, c.err)
		}
		if kind == evNoAction {
			continue
		}
		if index >= tcgPCRs {
			return fmt.Errorf("firmware log: event %d: PCR %d does not exist", n, index)
		}
		if int(index) == pcr {
			if err := each(n, digests); err != nil {
				return fmt.Errorf("firmware log: %w", err)
			}
		}
	}
	return nil
}

// cursor reads little-endian fields; after the first error all reads are zero.
type cursor struct {
	data []byte
	err  error
}

func (c *cursor) take(n int) []byte {
	if c.err == nil && (n < 0 || n > maxTCGEvent || n > len(c.data)) {
		c.err = errors.New("cut short")
	}
	if c.err != nil {
		return nil
	}
	part := c.data[:n]
	c.data = c.data[n:]
	return part
}

func (c *cursor) skip(n int) { c.take(n) }

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// header reads the first event, which is in the old format, and returns the
// sizes of the digests in those that follow.
func (c *cursor) header() (map[uint16]int, error) {
	c.skip(4) // PCR
	kind := c.u32()
	c.skip(sha1Size)
	spec := cursor{data: c.take(int(c.u32())), err: c.err}
	if kind != evNoAction || string(spec.take(len(specIDMagic))) != specIDMagic {
		return nil, errors.New("not in the crypto-agile format")
	}
	spec.skip(8) // platform class, version, size of UINTN
	sizes := map[uint16]int{}
	for n := spec.u32(); n > 0 && spec.err == nil; n-- {
		id := spec.u16()
		sizes[id] = int(spec.u16())
	}
	return sizes, spec.err
}

// digests reads one event's digests and returns those of known banks.
func (c *cursor) digests(sizes map[uint16]int) map[string]Hex {
	n := c.u32()
	if n > maxTCGDigests && c.err == nil {
		c.err = fmt.Errorf("%d digests", n)
	}
	out := map[string]Hex{}
	for ; n > 0 && c.err == nil; n-- {
		id := c.u16()
		size, ok := sizes[id]
		if !ok && c.err == nil {
			c.err = fmt.Errorf("algorithm %#x is not in the header", id)
		}
		d := c.take(size)
		if name, ok := tcgAlgorithms[id]; ok && c.err == nil {
			if h, _ := Hash(name); h.Size() != size {
				c.err = fmt.Errorf("%s digest of %d bytes", name, size)
			}
			out[name] = Hex(d)
		}
	}
	return out
}
