// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// The commands that a start gives the TPM, as the TPM library specification
// (part 3) has them. They are written here, because every start loads the
// program that they are part of, and go-tpm costs it a tenth of a millisecond;
// what is rarely done is done with go-tpm.

// algorithm is a TPM_ALG_ID.
type algorithm uint16

// bankNames are the hash algorithms of PCR banks by their TPM numbers.
var bankNames = map[algorithm]string{0x0004: "sha1", 0x000b: "sha256", 0x000c: "sha384", 0x000d: "sha512"}

func bankID(name string) algorithm {
	for id, n := range bankNames {
		if n == name {
			return id
		}
	}
	return 0x0010 // none
}

const (
	tagNoSessions = 0x8001
	tagSessions   = 0x8002

	ccGetCapability = 0x17a
	ccPCRRead       = 0x17e
	ccReadClock     = 0x181
	ccPCRExtend     = 0x182

	capPCRs = 5
)

// command is a TPM command.
func command(tag uint16, code uint32, body []byte) []byte {
	c := binary.BigEndian.AppendUint16(nil, tag)
	c = binary.BigEndian.AppendUint32(c, uint32(headerSize+len(body)))
	c = binary.BigEndian.AppendUint32(c, code)
	return append(c, body...)
}

func getPCRs() []byte {
	body := binary.BigEndian.AppendUint32(nil, capPCRs)
	body = binary.BigEndian.AppendUint32(body, 0)
	return command(tagNoSessions, ccGetCapability, binary.BigEndian.AppendUint32(body, 1))
}

func pcrRead(pcr int, banks []string) []byte {
	body := binary.BigEndian.AppendUint32(nil, uint32(len(banks)))
	for _, b := range banks {
		chosen := make([]byte, 3) // a bit for each of 24 registers
		chosen[pcr/8] = 1 << (pcr % 8)
		body = binary.BigEndian.AppendUint16(body, uint16(bankID(b)))
		body = append(append(body, byte(len(chosen))), chosen...)
	}
	return command(tagNoSessions, ccPCRRead, body)
}

func pcrExtend(pcr int, digests eventlog.Register) []byte {
	body := binary.BigEndian.AppendUint32(nil, uint32(pcr))
	body = append(body, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0) // by the empty password: handle, nonce, attributes, password
	body = binary.BigEndian.AppendUint32(body, uint32(len(digests)))
	for _, d := range digests {
		body = binary.BigEndian.AppendUint16(body, uint16(bankID(d.HashAlg)))
		body = append(body, d.Digest...)
	}
	return command(tagSessions, ccPCRExtend, body)
}

func readClock() []byte { return command(tagNoSessions, ccReadClock, nil) }

// errShort is a response that ends too early.
var errShort = errors.New("the TPM's response is cut off")

// execute sends a command and returns what follows the header of a response.
func (d *device) execute(command []byte) (response, error) {
	r, err := d.Send(command)
	if err != nil {
		return nil, err
	}
	if code := binary.BigEndian.Uint32(r[6:headerSize]); code != 0 {
		return nil, fmt.Errorf("the TPM answers with the code %#x", code)
	}
	return r[headerSize:], nil
}

// response is what is still to be read of one.
type response []byte

func (r *response) take(n int) ([]byte, error) {
	if n < 0 || n > len(*r) {
		return nil, errShort
	}
	taken := (*r)[:n:n]
	*r = (*r)[n:]
	return taken, nil
}

// number reads n bytes, at most 8.
func (r *response) number(n int) (uint64, error) {
	taken, err := r.take(n)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(slices.Concat(make([]byte, 8-n), taken)), nil
}

// selection is one bank of a TPML_PCR_SELECTION.
type selection struct {
	bank algorithm
	pcrs []byte // a bit each
}

func (s selection) has(pcr int) bool {
	return pcr/8 < len(s.pcrs) && s.pcrs[pcr/8]&(1<<(pcr%8)) != 0
}

func (r *response) selections() ([]selection, error) {
	n, err := r.number(4)
	if err != nil || n > 64 {
		return nil, errShort
	}
	var all []selection
	for range n {
		bank, err := r.number(2)
		if err != nil {
			return nil, err
		}
		size, err := r.number(1)
		if err != nil {
			return nil, err
		}
		pcrs, err := r.take(int(size))
		if err != nil {
			return nil, err
		}
		all = append(all, selection{algorithm(bank), pcrs})
	}
	return all, nil
}

// digests reads a TPML_DIGEST.
func (r *response) digests() ([][]byte, error) {
	n, err := r.number(4)
	if err != nil || n > 64 {
		return nil, errShort
	}
	var all [][]byte
	for range n {
		size, err := r.number(2)
		if err != nil {
			return nil, err
		}
		d, err := r.take(int(size))
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}
