// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/atomic-agent/atomic/install/record"
)

// errOpaque says that a glance at a record was not enough.
var errOpaque = errors.New("cannot be read at a glance")

// glance reads of a record what a list shows and passes over everything else
// unseen: parsing 500 whole records is what would take the time of a list. Its
// caller parses the record if there is anything that it does not expect.
func glance(data []byte) (*record.Record, error) {
	rec := &record.Record{}
	err := members(data, map[string]any{
		"image": &rec.Image, "revision": &rec.Revision, "created": &rec.Created, "runtime": &rec.Runtime,
		"has-container-service": &rec.HasContainerService,
		"atomic": inner(map[string]any{
			"version": &rec.Atomic.Version, "name": &rec.Atomic.Name, "generation": &rec.Atomic.Generation,
			"signature": &rec.Atomic.Signature,
			"rootfs":    inner(map[string]any{"enforced": &rec.Atomic.Rootfs.Enforced}),
		}),
	})
	if err == nil && rec.Atomic.Version != record.Version {
		err = errOpaque
	}
	return rec, err
}

// inner are the members of an object inside an object.
type inner map[string]any

// members decodes some members of a JSON object, all of which must be there
// once and after which nothing may follow.
func members(data []byte, want map[string]any) error {
	found := 0
	rest, err := walk(data, func(key, value []byte) (bool, error) {
		to, ok := want[string(key)]
		if !ok {
			return true, nil
		}
		end := valueEnd(value, 0)
		if end < 0 {
			return false, errOpaque
		}
		found++
		return true, decode(value[:end], to)
	})
	if err == nil && (found != len(want) || space(rest, 0) != len(rest)) {
		err = errOpaque
	}
	return err
}

// member returns data from the value of a member of the object that it begins
// with, nil if there is none. What follows the value need not be whole.
func member(data []byte, name string) (value []byte) {
	_, _ = walk(data, func(k, v []byte) (bool, error) {
		if string(k) == name {
			value = v
		}
		return value == nil, nil
	})
	return value
}

// walk passes the members of a JSON object to each, with data from the value
// on, as long as that returns true, and returns what follows the object.
func walk(data []byte, each func(key, value []byte) (bool, error)) (rest []byte, err error) {
	i := space(data, 0)
	if i == len(data) || data[i] != '{' {
		return nil, errOpaque
	}
	for i = space(data, i+1); ; i = space(data, i+1) {
		if i == len(data) || data[i] != '"' {
			return nil, errOpaque
		}
		n := bytes.IndexByte(data[i+1:], '"')
		if n < 0 {
			return nil, errOpaque
		}
		key := data[i+1 : i+1+n] // an escaped one matches nothing, or ends early and finds no colon
		if i = space(data, i+n+2); i >= len(data) || data[i] != ':' {
			return nil, errOpaque
		}
		i = space(data, i+1)
		if more, err := each(key, data[i:]); err != nil || !more {
			return nil, err
		}
		end := valueEnd(data, i)
		if end < 0 {
			return nil, errOpaque
		}
		if i = space(data, end); i == len(data) {
			return nil, errOpaque
		}
		if data[i] == '}' {
			return data[i+1:], nil
		}
		if data[i] != ',' {
			return nil, errOpaque
		}
	}
}

func decode(value []byte, to any) error {
	if object, ok := to.(inner); ok {
		return members(value, object)
	}
	return json.Unmarshal(value, to)
}

func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns where the value at i ends, -1 if it does not.
func valueEnd(data []byte, i int) int {
	depth := 0
	for start := i; i < len(data); i++ {
		switch data[i] {
		case '"':
			if i = stringEnd(data, i); i < 0 {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of the object around it
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 && i > start {
				return i
			}
		}
	}
	return -1
}

// stringEnd returns the closing quote of the string at i, -1 if there is none.
func stringEnd(data []byte, i int) int {
	for {
		n := bytes.IndexByte(data[i+1:], '"')
		if n < 0 {
			return -1
		}
		i += n + 1
		escapes := 0
		for data[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
}
