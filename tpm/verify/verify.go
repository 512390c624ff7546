// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/atomic-agent/atomic/tpm/eventlog"
	"github.com/atomic-agent/atomic/tpm/statement"
)

// Check names what evidence was rejected for. The names are API: a caller may
// map them to what is to be done.
type Check string

// The checks, in the order in which Verify makes them.
const (
	CheckKey        Check = "key"        // not the enrolled key, or not one that signs only what its TPM says
	CheckSignature  Check = "signature"  // the quote is not signed by the key
	CheckQuote      Check = "quote"      // not a quote of a TPM
	CheckNonce      Check = "nonce"      // made for another nonce or purpose
	CheckPCRs       Check = "pcrs"       // the values are not those that were signed
	CheckLog        Check = "log"        // the log is not well formed or contradicts itself
	CheckRegister   Check = "register"   // the log does not give the register's value
	CheckReset      Check = "reset"      // the TPM was reset since the log was written, or during it
	CheckGap        Check = "gap"        // a part of the register's history is unknown
	CheckFirmware   Check = "firmware"   // the register was not fresh when the log began
	CheckStatements Check = "statements" // a statement is missing or says something else
	CheckPolicy     Check = "policy"     // something started that is not allowed
)

// Rejection is why evidence is not accepted.
type Rejection struct {
	Check Check
	Err   error
}

func (r *Rejection) Error() string { return fmt.Sprintf("evidence rejected (%s): %v", r.Check, r.Err) }
func (r *Rejection) Unwrap() error { return r.Err }

func reject(c Check, format string, args ...any) error {
	return &Rejection{c, fmt.Errorf(format, args...)}
}

// Trust is what the verifier knows by itself.
type Trust struct {
	// AK is the enrolled attestation key's name, as KeyName returns it.
	AK []byte
	// Nonce is what the verifier asked with; it must be fresh and random.
	Nonce []byte
	// Policy says which starts are acceptable; nil accepts all.
	Policy *Policy
}

// Result is what accepted evidence says.
type Result struct {
	// Register is the number of the register, Value its SHA-256 bank.
	Register int          `json:"register"`
	Value    eventlog.Hex `json:"value"`
	// ResetCount is how often this TPM was reset in its life.
	ResetCount uint32 `json:"resetCount"`
	// Starts are all starts since boot, in order.
	Starts []Start `json:"starts"`
	// PCRs are the quoted registers.
	PCRs map[string]eventlog.Hex `json:"pcrs"`
}

// Start is one start.
type Start struct {
	Name      string           `json:"name"`
	Digest    string           `json:"digest"`
	Statement *statement.Start `json:"statement"`
}

// Verify judges evidence. The error is a *Rejection.
func Verify(e *Evidence, trust Trust) (*Result, error) {
	key, err := e.key(trust.AK)
	if err != nil {
		return nil, err
	}
	quote, err := e.quote(key, trust.Nonce)
	if err != nil {
		return nil, err
	}
	if err := e.pcrs(quote); err != nil {
		return nil, err
	}
	records, err := e.log(quote.ClockInfo.ResetCount)
	if err != nil {
		return nil, err
	}
	starts, err := e.starts(records)
	if err != nil {
		return nil, err
	}
	if trust.Policy != nil {
		if err := trust.Policy.check(starts); err != nil {
			return nil, &Rejection{CheckPolicy, err}
		}
	}
	return &Result{
		Register: e.Register, Value: e.PCRs[PCRName(e.Register)], ResetCount: quote.ClockInfo.ResetCount,
		Starts: starts, PCRs: e.PCRs,
	}, nil
}

// KeyName returns the name of an attestation key, a TPMT_PUBLIC: the digest
// that an enrolment keeps. It refuses keys that could sign anything but what
// their TPM itself says.
func KeyName(public []byte) ([]byte, error) {
	_, name, err := parseKey(public)
	return name, err
}

func parseKey(public []byte) (*ecdsa.PublicKey, []byte, error) {
	pub, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return nil, nil, fmt.Errorf("parse key: %w", err)
	}
	if !bytes.Equal(tpm2.Marshal(pub), public) {
		return nil, nil, fmt.Errorf("parse key: something follows it")
	}
	want := AKTemplate()
	if pub.Type != want.Type || pub.NameAlg != want.NameAlg || pub.ObjectAttributes != want.ObjectAttributes || len(pub.AuthPolicy.Buffer) > 0 {
		return nil, nil, fmt.Errorf("key is not a restricted signing key that is fixed to its TPM")
	}
	parms, err := pub.Parameters.ECCDetail()
	if err != nil {
		return nil, nil, fmt.Errorf("parse key: %w", err)
	}
	if !bytes.Equal(tpm2.Marshal(parms), marshalParms(&want)) {
		return nil, nil, fmt.Errorf("key does not sign by ECDSA on P-256 with SHA-256")
	}
	point, err := pub.Unique.ECC()
	if err != nil {
		return nil, nil, fmt.Errorf("parse key: %w", err)
	}
	key, err := tpm2.ECDSAPub(parms, point)
	if err != nil {
		return nil, nil, fmt.Errorf("parse key: %w", err)
	}
	if _, err := key.ECDH(); err != nil { // which is on the curve?
		return nil, nil, fmt.Errorf("parse key: %w", err)
	}
	name, err := tpm2.ObjectName(pub)
	if err != nil {
		return nil, nil, fmt.Errorf("name key: %w", err)
	}
	return key, name.Buffer, nil
}

func marshalParms(pub *tpm2.TPMTPublic) []byte {
	parms, err := pub.Parameters.ECCDetail()
	if err != nil {
		return nil
	}
	return tpm2.Marshal(parms)
}

func (e *Evidence) key(enrolled []byte) (*ecdsa.PublicKey, error) {
	key, name, err := parseKey(e.AK)
	if err != nil {
		return nil, &Rejection{CheckKey, err}
	}
	if !bytes.Equal(name, enrolled) {
		return nil, reject(CheckKey, "key %x is not the enrolled %x", name, enrolled)
	}
	return key, nil
}

// quote checks the signature, then what was signed.
func (e *Evidence) quote(key *ecdsa.PublicKey, nonce []byte) (*tpm2.TPMSAttest, error) {
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](e.Signature)
	if err != nil {
		return nil, reject(CheckSignature, "parse signature: %w", err)
	}
	ec, err := sig.Signature.ECDSA()
	if err != nil || sig.SigAlg != tpm2.TPMAlgECDSA || ec.Hash != tpm2.TPMAlgSHA256 {
		return nil, reject(CheckSignature, "not ECDSA with SHA-256")
	}
	digest := sha256.Sum256(e.Quote)
	r, s := new(big.Int).SetBytes(ec.SignatureR.Buffer), new(big.Int).SetBytes(ec.SignatureS.Buffer)
	if !ecdsa.Verify(key, digest[:], r, s) {
		return nil, reject(CheckSignature, "not made by the key over the quote")
	}
	// From here on the bytes are the TPM's own: a restricted key signs nothing
	// from outside that begins with the TPM's magic number.
	quote, err := tpm2.Unmarshal[tpm2.TPMSAttest](e.Quote)
	if err != nil {
		return nil, reject(CheckQuote, "parse quote: %w", err)
	}
	if quote.Magic != tpm2.TPMGeneratedValue || quote.Type != tpm2.TPMSTAttestQuote {
		return nil, reject(CheckQuote, "signed is something else (magic %#x, type %#x)", uint32(quote.Magic), uint16(quote.Type))
	}
	if len(nonce) == 0 || !bytes.Equal(quote.ExtraData.Buffer, Qualification(nonce)) {
		return nil, reject(CheckNonce, "the quote was made for another nonce")
	}
	return quote, nil
}

// pcrs checks that the values are exactly those that were signed: the signed
// selection is the one we want, and no value is beside it.
func (e *Evidence) pcrs(quote *tpm2.TPMSAttest) error {
	info, err := quote.Attested.Quote()
	if err != nil {
		return reject(CheckQuote, "parse quote: %w", err)
	}
	if !bytes.Equal(tpm2.Marshal(info.PCRSelect), tpm2.Marshal(Selection())) {
		return reject(CheckPCRs, "the quote is of other registers than 0 to %d of the SHA-256 bank", QuotedPCRs-1)
	}
	if len(e.PCRs) != QuotedPCRs {
		return reject(CheckPCRs, "%d values for %d registers", len(e.PCRs), QuotedPCRs)
	}
	h := sha256.New()
	for i := range QuotedPCRs {
		value := e.PCRs[PCRName(i)]
		if len(value) != sha256.Size {
			return reject(CheckPCRs, "PCR %d has a value of %d bytes", i, len(value))
		}
		h.Write(value)
	}
	if !bytes.Equal(h.Sum(nil), info.PCRDigest.Buffer) {
		return reject(CheckPCRs, "the values are not those that were signed")
	}
	return nil
}

// log checks that the log explains the register from the boot on.
func (e *Evidence) log(resetCount uint32) ([]eventlog.Record, error) {
	value := e.PCRs[PCRName(e.Register)]
	if len(value) == 0 {
		return nil, reject(CheckRegister, "PCR %d is not among the quoted", e.Register)
	}
	records, torn, err := eventlog.Parse(e.Log)
	if err != nil {
		return nil, &Rejection{CheckLog, err}
	}
	if torn > 0 {
		return nil, reject(CheckLog, "its last record is torn")
	}
	sum, err := eventlog.Replay(records)
	if err != nil {
		return nil, &Rejection{CheckLog, err}
	}
	first, last := eventlog.Zero([]string{"sha256"}), make(eventlog.Hex, sha256.Size)
	if len(records) > 0 {
		var ok bool
		if last, ok = sum.Register.Get("sha256"); !ok || sum.PCR != e.Register {
			return nil, reject(CheckLog, "the log is of PCR %d in the banks %v", sum.PCR, sum.Register.Banks())
		}
		first = sum.First
	} else if e.Firmware != nil {
		// Nothing started: only the boot loader can have extended the register.
		if first, err = eventlog.ReplayFirmware(e.Firmware, e.Register, []string{"sha256"}); err != nil {
			return nil, &Rejection{CheckFirmware, err}
		}
		last, _ = first.Get("sha256")
	}
	switch {
	case !bytes.Equal(last, value):
		return nil, reject(CheckRegister, "PCR %d is %s, the log gives %s", e.Register, value, last)
	case sum.Gaps > 0:
		return nil, reject(CheckGap, "the log has %d gaps", sum.Gaps)
	case sum.Resets > 0:
		return nil, reject(CheckReset, "the TPM was reset %d times while the host was running", sum.Resets)
	case len(records) > 0 && records[0].Atomic.ResetCount != resetCount:
		return nil, reject(CheckReset, "the log is of reset %d of the TPM, the quote of %d", records[0].Atomic.ResetCount, resetCount)
	}
	return records, e.fresh(first)
}

// fresh checks the value before the first record: zero, or what the boot loader
// measured. The firmware's log is not signed; it could call our own events the
// boot loader's and so hide starts. But it cannot hide the separator that came
// before them, because its digest is known.
func (e *Evidence) fresh(first eventlog.Register) error {
	if first.IsZero() {
		return nil
	}
	value, err := eventlog.ReplayFirmware(e.Firmware, e.Register, first.Banks())
	if err != nil {
		return &Rejection{CheckFirmware, err}
	}
	if !value.Equal(first) {
		return reject(CheckFirmware, "the log begins with %s, the firmware's log explains %s", first.Best().Digest, value.Best().Digest)
	}
	digests, err := eventlog.FirmwareDigests(e.Firmware, e.Register, "sha256")
	if err != nil {
		return &Rejection{CheckFirmware, err}
	}
	separator := sha256.Sum256([]byte(eventlog.BootEvent().String()))
	for i, d := range digests {
		if bytes.Equal(d, separator[:]) {
			return reject(CheckFirmware, "event %d of the firmware's log is our separator: starts before it are hidden", i)
		}
	}
	return nil
}

// starts returns the starts with their statements.
func (e *Evidence) starts(records []eventlog.Record) ([]Start, error) {
	parsed := map[string]*statement.Start{}
	for _, body := range e.Statements {
		sum := sha256.Sum256([]byte(body))
		s, err := statement.Parse([]byte(body))
		if err != nil {
			return nil, &Rejection{CheckStatements, err}
		}
		parsed[hex.EncodeToString(sum[:])] = s
	}
	starts := []Start{}
	for _, r := range records {
		event, err := eventlog.ParseEvent(r.Content.String)
		if err != nil {
			return nil, &Rejection{CheckLog, err}
		}
		if event.Kind != eventlog.Start {
			continue
		}
		s := parsed[event.Digest]
		if s == nil {
			return nil, reject(CheckStatements, "the statement %s of a start of %s is missing", event.Digest, event.Name)
		}
		if s.Name != event.Name {
			return nil, reject(CheckStatements, "the start of %s has the statement of %s", event.Name, s.Name)
		}
		starts = append(starts, Start{event.Name, event.Digest, s})
	}
	return starts, nil
}
