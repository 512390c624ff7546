// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// register is one PCR of a TPM.
type register struct {
	tpm *device
	pcr int
}

// bankNames are the hash algorithms of PCR banks by their TPM numbers.
var bankNames = map[tpm2.TPMAlgID]string{
	tpm2.TPMAlgSHA1:   "sha1",
	tpm2.TPMAlgSHA256: "sha256",
	tpm2.TPMAlgSHA384: "sha384",
	tpm2.TPMAlgSHA512: "sha512",
}

func bankID(name string) tpm2.TPMAlgID {
	for id, n := range bankNames {
		if n == name {
			return id
		}
	}
	return tpm2.TPMAlgNull
}

// banks returns the names of the active banks, in the TPM's order of
// algorithms. They change at a reset only.
func (r register) banks() ([]string, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(r.tpm)
	if err != nil {
		return nil, fmt.Errorf("read the TPM's banks: %w", err)
	}
	allocated, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("read the TPM's banks: %w", err)
	}
	var ids []tpm2.TPMAlgID
	for _, s := range allocated.PCRSelections {
		active := r.pcr/8 < len(s.PCRSelect) && s.PCRSelect[r.pcr/8]&(1<<(r.pcr%8)) != 0
		if _, known := bankNames[s.Hash]; known && active {
			ids = append(ids, s.Hash)
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
		var want tpm2.TPMLPCRSelection
		for _, b := range banks {
			if _, ok := found[b]; !ok {
				want.PCRSelections = append(want.PCRSelections, tpm2.TPMSPCRSelection{
					Hash: bankID(b), PCRSelect: tpm2.PCClientCompatible.PCRs(uint(r.pcr)),
				})
			}
		}
		rsp, err := tpm2.PCRRead{PCRSelectionIn: want}.Execute(r.tpm)
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w", r.pcr, err)
		}
		// A TPM may return fewer than asked for, in the order asked for.
		before := len(found)
		digests := rsp.PCRValues.Digests
		for _, s := range rsp.PCRSelectionOut.PCRSelections {
			if r.pcr/8 < len(s.PCRSelect) && s.PCRSelect[r.pcr/8]&(1<<(r.pcr%8)) != 0 && len(digests) > 0 {
				found[bankNames[s.Hash]] = digests[0].Buffer
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

// extend extends all banks with one command: all of them or none.
func (r register) extend(digests eventlog.Register) error {
	var values []tpm2.TPMTHA
	for _, d := range digests {
		values = append(values, tpm2.TPMTHA{HashAlg: bankID(d.HashAlg), Digest: d.Digest})
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(r.pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: values},
	}.Execute(r.tpm)
	if err != nil {
		return fmt.Errorf("extend PCR %d: %w", r.pcr, err)
	}
	return nil
}

// resetCount returns how often the TPM was reset in its life.
func (r register) resetCount() (uint32, error) {
	rsp, err := tpm2.ReadClock{}.Execute(r.tpm)
	if err != nil {
		return 0, fmt.Errorf("read the TPM's clock: %w", err)
	}
	return rsp.CurrentTime.ClockInfo.ResetCount, nil
}
