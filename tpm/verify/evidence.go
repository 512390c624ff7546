// SPDX-License-Identifier: Apache-2.0

// Package verify judges evidence: what a host's TPM signs about what the host
// measured, with the log and the statements that explain it.
//
// Verify needs no TPM, no privilege and no network and trusts nothing in the
// evidence but what the TPM's attestation key signed. That key must be known:
// the verifier is given its name, from an enrolment that it trusts.
//
// What accepted evidence proves: since its last reset this TPM's register was
// extended with exactly these starts, in this order, by a host that then knew
// the nonce. It does not prove that nothing else ran. That takes a measured
// boot of a host which starts containers in no other way.
//
// The format is in docs/formats/evidence.md.
package verify

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/go-tpm/tpm2"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// Version is the version of Evidence that this package reads and writes.
const Version = 1

// Evidence is what a host says, for one nonce.
type Evidence struct {
	Version int `json:"version"`
	// AK is the attestation key's public part, a TPMT_PUBLIC.
	AK []byte `json:"ak"`
	// Quote is a TPMS_ATTEST over PCRs, Signature a TPMT_SIGNATURE over it.
	Quote     []byte `json:"quote"`
	Signature []byte `json:"signature"`
	// PCRs are values in the SHA-256 bank by register number.
	PCRs map[string]eventlog.Hex `json:"pcrs"`
	// Register is the number of the register that starts are measured into.
	Register int `json:"register"`
	// Log is the event log, Firmware the firmware's, as they are on the host.
	Log      []byte `json:"log"`
	Firmware []byte `json:"firmware,omitempty"`
	// Statements are the statements that the log names, each once.
	Statements []string `json:"statements"`
}

// maxEvidence limits what Parse reads.
const maxEvidence = 256 << 20

// Parse reads evidence.
func Parse(data []byte) (*Evidence, error) {
	if len(data) > maxEvidence {
		return nil, errors.New("parse evidence: too long")
	}
	var e Evidence
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("parse evidence: %w", err)
	}
	if e.Version != Version {
		return nil, fmt.Errorf("parse evidence: version %d is not known here", e.Version)
	}
	return &e, nil
}

// QuotedPCRs are the registers that a quote covers.
const QuotedPCRs = 16

// Selection is the quoted registers: 0 to 15 of the SHA-256 bank.
func Selection() tpm2.TPMLPCRSelection {
	pcrs := make([]uint, QuotedPCRs)
	for i := range pcrs {
		pcrs[i] = uint(i)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...),
	}}}
}

// PCRName is the key of a register in Evidence.PCRs.
func PCRName(pcr int) string { return strconv.Itoa(pcr) }

// Qualification is what the TPM signs for a nonce. It says what the signature
// is for, so that none made for another purpose can be used here.
func Qualification(nonce []byte) []byte {
	h := sha256.New()
	h.Write([]byte("atomic-attest-v1\x00evidence\x00"))
	h.Write(nonce)
	return h.Sum(nil)
}

// AKTemplate describes the attestation key: a restricted ECC P-256 signing key,
// a primary of the endorsement hierarchy. It is the same at each making, so
// nothing has to be kept; and what a key of this hierarchy signs shows the TPM's
// reset count as it is, not obscured.
func AKTemplate() tpm2.TPMTPublic {
	label := sha256.Sum256([]byte("atomic-attest-v1 attestation key"))
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: label[:]},
			Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, len(label))},
		}),
	}
}
