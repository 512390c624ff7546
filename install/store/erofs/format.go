// SPDX-License-Identifier: Apache-2.0

// Package erofs writes and reads composefs images: EROFS file systems that
// hold the metadata of a tree and refer to content by fs-verity digest.
//
// The output of Write is a pure function of the tree and byte for byte that of
// upstream's mkcomposefs for format versions 0 and 1, so that its digest can be
// compared with one that somebody else computed and signed. docs/formats/store.md
// states the rules; the tests compare with mkcomposefs itself.
package erofs

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"
)

const (
	blockBits = 12
	blockSize = 1 << blockBits
	slotSize  = 32

	headerMagic = 0xd078629a
	superOffset = 1024
	superSize   = 128
	superMagic  = 0xe0f5e1e2
	inodesStart = superOffset + superSize

	featureMtime       = 2
	featureXattrFilter = 4

	compactSize  = 32
	extendedSize = 64

	layoutPlain  = 0
	layoutInline = 2
	layoutChunk  = 4

	chunkBitsMax = 31 + blockBits
	chunksMax    = blockSize / 4
	nullAddr     = 0xffffffff

	xattrHeaderSize = 12
	xattrEntrySize  = 4
	sharedMax       = 128
	filterSeed      = 0x25BBE08F

	direntSize = 12
)

// The kernel's xattr name indexes, and what they stand for.
const (
	xattrUser       = 1
	xattrACLAccess  = 2
	xattrACLDefault = 3
	xattrTrusted    = 4
	xattrSecurity   = 6
)

var xattrPrefixes = []struct {
	prefix string
	index  uint8
}{
	{"user.", xattrUser},
	{aclAccess, xattrACLAccess},
	{aclDefault, xattrACLDefault},
	{"trusted.", xattrTrusted},
	{"security.", xattrSecurity},
}

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"

	overlayPrefix  = "trusted.overlay."
	overlayEscape  = "trusted.overlay.overlay."
	overlayUser    = "user.overlay."
	overlayOpaque  = overlayPrefix + "opaque"
	overlayMeta    = overlayPrefix + "metacopy"
	overlayRedir   = overlayPrefix + "redirect"
	selinuxLabel   = "security.selinux"
	whiteoutName   = "whiteout"
	whiteoutsName  = "whiteouts"
	opaqueName     = "opaque"
	metacopyLen    = 36
	metacopySHA256 = 1
)

var le = binary.LittleEndian

// fileType is the dirent type of a mode.
func fileType(mode uint32) uint8 {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	case unix.S_IFLNK:
		return 7
	}
	return 0
}

func roundUp(v, to uint64) uint64 { return (v + to - 1) / to * to }

// chunking returns how an external file of the given size is cut: as few
// chunks as possible, and those not larger than necessary.
func chunking(size uint64) (chunkBits uint, count uint64) {
	chunkBits = min(max(uint(bits.Len64(size-1)), blockBits), chunkBitsMax)
	return chunkBits, (size-1)>>chunkBits + 1
}

// xxh32 is the 32-bit xxHash.
func xxh32(s string, seed uint32) uint32 {
	const (
		p1 = 2654435761
		p2 = 2246822519
		p3 = 3266489917
		p4 = 668265263
		p5 = 374761393
	)
	b := []byte(s)
	var h uint32
	if len(b) >= 16 {
		v := [4]uint32{seed, seed + p2, seed, seed}
		v[0] += p1
		v[0] += p2
		v[3] -= p1
		for ; len(b) >= 16; b = b[16:] {
			for i := range v {
				v[i] = bits.RotateLeft32(v[i]+le.Uint32(b[4*i:])*p2, 13) * p1
			}
		}
		h = bits.RotateLeft32(v[0], 1) + bits.RotateLeft32(v[1], 7) +
			bits.RotateLeft32(v[2], 12) + bits.RotateLeft32(v[3], 18)
	} else {
		h = seed + p5
	}
	h += uint32(len(s))
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+le.Uint32(b)*p3, 17) * p4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h ^= h >> 15
	h *= p2
	h ^= h >> 13
	h *= p3
	return h ^ h>>16
}
