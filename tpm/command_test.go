// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// capture is a transport that keeps what is sent.
type capture struct{ command []byte }

var errCaptured = errors.New("captured")

func (c *capture) Send(command []byte) ([]byte, error) {
	c.command = bytes.Clone(command)
	return nil, errCaptured
}

// TestCommands compares commands with go-tpm's.
func TestCommands(t *testing.T) {
	var digests eventlog.Register
	var values []tpm2.TPMTHA
	banks := []string{"sha1", "sha256", "sha384", "sha512"}
	for _, b := range banks {
		h, _ := eventlog.Hash(b)
		d := bytes.Repeat([]byte{byte(h.Size())}, h.Size())
		digests = append(digests, eventlog.Digest{HashAlg: b, Digest: d})
		values = append(values, tpm2.TPMTHA{HashAlg: tpm2.TPMAlgID(bankID(b)), Digest: d})
	}
	for _, pcr := range []int{0, 8, 16, 23} {
		var c capture
		sent := func(err error) []byte {
			t.Helper()
			if !errors.Is(err, errCaptured) {
				t.Fatal(err)
			}
			return c.command
		}
		same := func(what string, got, want []byte) {
			t.Helper()
			if !bytes.Equal(got, want) {
				t.Errorf("%s, PCR %d:\ngot  %x\nwant %x", what, pcr, got, want)
			}
		}
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: values},
		}.Execute(&c)
		same("extend", pcrExtend(pcr, digests), sent(err))
		var want tpm2.TPMLPCRSelection
		for _, b := range banks {
			want.PCRSelections = append(want.PCRSelections, tpm2.TPMSPCRSelection{
				Hash: tpm2.TPMAlgID(bankID(b)), PCRSelect: tpm2.PCClientCompatible.PCRs(uint(pcr)),
			})
		}
		_, err = tpm2.PCRRead{PCRSelectionIn: want}.Execute(&c)
		same("read", pcrRead(pcr, banks), sent(err))
		_, err = tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(&c)
		same("capability", getPCRs(), sent(err))
		_, err = tpm2.ReadClock{}.Execute(&c)
		same("clock", readClock(), sent(err))
	}
}

// FuzzResponse reads what a TPM might answer.
func FuzzResponse(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 11, 3, 0, 1, 0, 0, 0, 0, 1, 0, 2, 7, 7})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := response(data)
		chosen, err := r.selections()
		if err != nil {
			return
		}
		for _, s := range chosen {
			s.has(8)
		}
		if digests, err := r.digests(); err == nil && len(digests) > len(data) {
			t.Error("more digests than bytes")
		}
	})
}
