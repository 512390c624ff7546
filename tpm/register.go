// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"fmt"
	"slices"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// register is one PCR of a TPM.
type register struct {
	tpm *device
	pcr int
}

// banks returns the names of the active banks, in the TPM's order of
// algorithms. They change at a reset only.
func (r register) banks() ([]string, error) {
	rsp, err := r.tpm.execute(getPCRs())
	if err == nil {
		_, err = rsp.take(1 + 4) // whether there are more capabilities, and which this one is
	}
	if err != nil {
		return nil, fmt.Errorf("read the TPM's banks: %w", err)
	}
	allocated, err := rsp.selections()
	if err != nil {
		return nil, fmt.Errorf("read the TPM's banks: %w", err)
	}
	var ids []algorithm
	for _, s := range allocated {
		if _, known := bankNames[s.bank]; known && s.has(r.pcr) {
			ids = append(ids, s.bank)
		}
	}
	slices.Sort(ids) // SHA-1, SHA-256, SHA-384, SHA-512
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, bankNames[id])
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("PCR %d has no bank that we know", r.pcr)
	}
	return names, nil
}

// read returns the register's value in the given banks.
func (r register) read(banks []string) (eventlog.Register, error) {
	found := map[string][]byte{}
	for len(found) < len(banks) {
		missing := slices.DeleteFunc(slices.Clone(banks), func(b string) bool { return found[b] != nil })
		chosen, digests, err := r.readOnce(missing)
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", r.pcr, err)
		}
		// A TPM may return fewer than asked for, in the order asked for.
		before := len(found)
		for _, s := range chosen {
			if s.has(r.pcr) && len(digests) > 0 {
				found[bankNames[s.bank]] = digests[0]
				digests = digests[1:]
			}
		}
		if len(found) == before {
			return nil, fmt.Errorf("read PCR %d: the TPM has no bank %v", r.pcr, banks)
		}
	}
	value := make(eventlog.Register, 0, len(banks))
	for _, b := range banks {
		if h, ok := eventlog.Hash(b); !ok || len(found[b]) != h.Size() {
			return nil, fmt.Errorf("read PCR %d: %s value of %d bytes", r.pcr, b, len(found[b]))
		}
		value = append(value, eventlog.Digest{HashAlg: b, Digest: found[b]})
	}
	return value, nil
}

func (r register) readOnce(banks []string) ([]selection, [][]byte, error) {
	rsp, err := r.tpm.execute(pcrRead(r.pcr, banks))
	if err == nil {
		_, err = rsp.take(4) // how often registers were changed
	}
	if err != nil {
		return nil, nil, err
	}
	chosen, err := rsp.selections()
	if err != nil {
		return nil, nil, err
	}
	digests, err := rsp.digests()
	return chosen, digests, err
}

// extend extends all banks with one command: all of them or none.
func (r register) extend(digests eventlog.Register) error {
	if _, err := r.tpm.execute(pcrExtend(r.pcr, digests)); err != nil {
		return fmt.Errorf("extend PCR %d: %w", r.pcr, err)
	}
	return nil
}

// resetCount returns how often the TPM was reset in its life.
func (r register) resetCount() (uint32, error) {
	rsp, err := r.tpm.execute(readClock())
	if err == nil {
		_, err = rsp.take(8 + 8) // time and clock
	}
	var count uint64
	if err == nil {
		count, err = rsp.number(4)
	}
	if err != nil {
		return 0, fmt.Errorf("read the TPM's clock: %w", err)
	}
	return uint32(count), nil
}
