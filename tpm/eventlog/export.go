// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// WriteCEL writes records as a Canonical Event Log in its JSON encoding: an
// array of numbered records, as `systemd-pcrlock cel` prints one. The format
// knows no values in between, so only a log without a gap that began with a
// zero register can be replayed from it.
func WriteCEL(w io.Writer, records []Record) error {
	type celRecord struct {
		Recnum      int      `json:"recnum"`
		PCR         *int     `json:"pcr,omitempty"`
		Digests     Register `json:"digests"`
		ContentType string   `json:"content_type"`
		Content     Content  `json:"content"`
	}
	out := make([]celRecord, 0, len(records))
	for i, r := range records {
		out = append(out, celRecord{i, r.PCR, r.Digests, r.ContentType, r.Content})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(out)
}

// evIPL is the type of events that a boot loader measures, with a text.
const evIPL = 13

// WriteTCG2 writes records in the firmware's crypto-agile binary format, for
// tools that read binary_bios_measurements, as tpm2_eventlog(1) does.
func WriteTCG2(w io.Writer, records []Record) error {
	if len(records) == 0 || records[0].PCR == nil {
		return errors.New("export TCG2: no anchored records")
	}
	banks := records[0].Digests.Banks()
	var b bytes.Buffer
	le := binary.LittleEndian
	u16 := func(v uint16) { b.Write(le.AppendUint16(nil, v)) }
	u32 := func(v uint32) { b.Write(le.AppendUint32(nil, v)) }

	u32(0)
	u32(evNoAction)
	b.Write(make([]byte, sha1Size))
	u32(uint32(len(specIDMagic) + 8 + 4 + 4*len(banks) + 1))
	b.WriteString(specIDMagic)
	b.Write([]byte{0, 0, 0, 0, 0, 2, 0, 2}) // client platform, version 2.0, 64-bit
	u32(uint32(len(banks)))
	for _, name := range banks {
		h, _ := Hash(name)
		u16(tcgID(name))
		u16(uint16(h.Size()))
	}
	b.WriteByte(0) // no vendor information

	for i, r := range records {
		if r.PCR == nil || !slices.Equal(r.Digests.Banks(), banks) {
			return fmt.Errorf("export TCG2: record %d is of another register", i)
		}
		u32(uint32(*r.PCR))
		u32(evIPL)
		u32(uint32(len(r.Digests)))
		for _, d := range r.Digests {
			u16(tcgID(d.HashAlg))
			b.Write(d.Digest)
		}
		u32(uint32(len(r.Content.String)))
		b.WriteString(r.Content.String)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func tcgID(bank string) uint16 {
	for id, name := range tcgAlgorithms {
		if name == bank {
			return id
		}
	}
	return 0
}
