// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// MaxRecord is the largest record in bytes, separators included.
const MaxRecord = 16 << 10

// A record stands between these two bytes (RFC 7464).
const (
	recordStart = 0x1e
	recordEnd   = '\n'
)

// Encode returns r as it stands in the log.
func Encode(r Record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	out := make([]byte, 0, len(body)+2)
	out = append(out, recordStart)
	out = append(out, body...)
	out = append(out, recordEnd)
	if len(out) > MaxRecord {
		return nil, fmt.Errorf("encode record: %d bytes are too long", len(out))
	}
	return out, nil
}

// Parse reads a whole log. It returns the records and, where the last one was
// not written to its end, the number of bytes of that torn record: a writer
// that died, or one that is at work. Anything else that is not a record is an
// error, which names the record by its place.
func Parse(data []byte) (records []Record, torn int, err error) {
	for n := 0; len(data) > 0; n++ {
		if data[0] != recordStart {
			return nil, 0, fmt.Errorf("record %d does not begin with a record separator", n)
		}
		end := bytes.IndexByte(data[1:], recordStart) + 1
		if end == 0 {
			end = len(data)
		}
		if data[end-1] != recordEnd {
			if end == len(data) {
				return records, len(data), nil
			}
			return nil, 0, fmt.Errorf("record %d does not end with a newline", n)
		}
		r, err := decode(data[1:end])
		if err != nil {
			return nil, 0, fmt.Errorf("record %d: %w", n, err)
		}
		records = append(records, r)
		data = data[end:]
	}
	return records, 0, nil
}

// Last returns the last whole record of the end of a log, and the number of
// bytes behind it. Without a whole record it returns nil and len(data). The
// data may begin in the middle of a record.
func Last(data []byte) (record *Record, torn int, err error) {
	end := len(data)
	for {
		start := bytes.LastIndexByte(data[:end], recordStart)
		if start < 0 {
			return nil, len(data), nil
		}
		if data[end-1] == recordEnd {
			r, err := decode(data[start+1 : end])
			if err != nil {
				return nil, 0, fmt.Errorf("last record: %w", err)
			}
			return &r, len(data) - end, nil
		}
		end = start
		if end == 0 {
			return nil, len(data), nil
		}
	}
}

func decode(body []byte) (Record, error) {
	var r Record
	if len(body) > MaxRecord {
		return r, fmt.Errorf("%d bytes are too long", len(body))
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return r, err
	}
	return r, r.Check()
}

// Check says whether the record makes sense by itself.
func (r *Record) Check() error {
	if r.Atomic.Version != Version {
		return fmt.Errorf("version %d is not known here", r.Atomic.Version)
	}
	if err := r.Digests.check(); err != nil {
		return err
	}
	if (r.PCR == nil) != (r.Atomic.Unanchored != "") {
		return fmt.Errorf("must have either a pcr or a reason for not being anchored")
	}
	if r.PCR != nil && (*r.PCR < 0 || *r.PCR > 23) {
		return fmt.Errorf("pcr %d does not exist", *r.PCR)
	}
	for _, value := range []Register{r.Atomic.Register, r.Atomic.Before} {
		if value == nil {
			continue
		}
		if err := value.check(); err != nil {
			return fmt.Errorf("register: %w", err)
		}
		if !sameBanks(value, r.Digests) {
			return fmt.Errorf("register and digests have different banks")
		}
	}
	if r.Atomic.Register == nil {
		return fmt.Errorf("no register value")
	}
	return nil
}

func sameBanks(a, b Register) bool {
	return len(a) == len(b) && Zero(a.Banks()).Equal(Zero(b.Banks()))
}
