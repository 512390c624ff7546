// SPDX-License-Identifier: Apache-2.0

//go:build !starter

package tpm

// The program that starts containers collects no evidence: it is built without
// this file, and so without go-tpm, which would cost every start time.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/go-tpm/tpm2"

	"github.com/atomic-agent/atomic/tpm/eventlog"
	"github.com/atomic-agent/atomic/tpm/verify"
)

// Evidence lets the TPM sign its registers for a verifier's nonce and adds what
// explains them. No start is measured in between.
func (m *Measurer) Evidence(ctx context.Context, nonce []byte) (e *verify.Evidence, err error) {
	err = m.locked(ctx, func(w *writer) error {
		e, err = w.evidence(nonce)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("collect evidence: %w", err)
	}
	return e, nil
}

// AttestationKey returns the public part of the TPM's attestation key, a
// TPMT_PUBLIC. It needs no log and writes nothing.
func (m *Measurer) AttestationKey(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	dev, err := openDevice(ctx, m.cfg.Device)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dev.Close() }()
	ak, err := createAK(dev)
	if err != nil {
		return nil, err
	}
	return ak.public, ak.flush()
}

func (w *writer) evidence(nonce []byte) (*verify.Evidence, error) {
	log, err := os.ReadFile(w.log.Name())
	if err != nil {
		return nil, err
	}
	records, torn, err := eventlog.Parse(log)
	if err != nil {
		return nil, err
	}
	e := &verify.Evidence{Version: verify.Version, Register: w.reg.pcr, Log: log[:len(log)-torn], PCRs: map[string]eventlog.Hex{}}
	if len(records) > 0 && records[0].PCR != nil {
		e.Register = *records[0].PCR
	}
	if e.Statements, err = w.m.statements(records); err != nil {
		return nil, err
	}
	if w.m.cfg.FirmwareLog != "" {
		e.Firmware, err = os.ReadFile(w.m.cfg.FirmwareLog)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read firmware log: %w", err)
		}
	}
	for pcr := range verify.QuotedPCRs {
		value, err := register{w.reg.tpm, pcr}.read([]string{"sha256"})
		if err != nil {
			return nil, err
		}
		e.PCRs[verify.PCRName(pcr)] = value[0].Digest
	}
	return e, quote(w.reg.tpm, nonce, e)
}

// statements returns the statements that records name, each once.
func (m *Measurer) statements(records []eventlog.Record) ([]string, error) {
	seen := map[string]bool{}
	all := []string{}
	for _, r := range records {
		event, err := eventlog.ParseEvent(r.Content.String)
		if err != nil {
			return nil, err
		}
		if event.Kind != eventlog.Start || seen[event.Digest] {
			continue
		}
		seen[event.Digest] = true
		body, err := m.LoadStatement(event.Digest)
		if err != nil {
			return nil, err
		}
		all = append(all, string(body))
	}
	return all, nil
}

// attestationKey is the key, loaded.
type attestationKey struct {
	tpm    *device
	handle tpm2.NamedHandle
	public []byte
}

// createAK makes the attestation key, which is the same each time.
func createAK(dev *device) (*attestationKey, error) {
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(verify.AKTemplate()),
	}.Execute(dev)
	if err != nil {
		return nil, fmt.Errorf("create attestation key: %w", err)
	}
	ak := &attestationKey{tpm: dev, handle: tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create attestation key: %w", err), ak.flush())
	}
	ak.public = tpm2.Marshal(public)
	return ak, nil
}

func (ak *attestationKey) flush() error {
	if _, err := (tpm2.FlushContext{FlushHandle: ak.handle.Handle}).Execute(ak.tpm); err != nil {
		return fmt.Errorf("flush attestation key: %w", err)
	}
	return nil
}

func quote(dev *device, nonce []byte, e *verify.Evidence) (err error) {
	ak, err := createAK(dev)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ak.flush()) }()
	rsp, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: ak.handle.Handle, Name: ak.handle.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: verify.Qualification(nonce)},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      verify.Selection(),
	}.Execute(dev)
	if err != nil {
		return fmt.Errorf("quote: %w", err)
	}
	e.AK, e.Quote, e.Signature = ak.public, rsp.Quoted.Bytes(), tpm2.Marshal(rsp.Signature)
	return nil
}
