// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// jsonPlaces maps JSON pointers ("/mounts/3/source") of a document to the
// offsets of their values, as far as the document parses.
func jsonPlaces(content []byte) map[string]int {
	places := map[string]int{}
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	var walk func(at string, depth int) bool
	walk = func(at string, depth int) bool {
		start := int(dec.InputOffset())
		tok, err := dec.Token()
		if err != nil || depth > 100 {
			return false
		}
		for start < len(content) && strings.IndexByte(" \t\r\n:,", content[start]) >= 0 {
			start++
		}
		places[at] = start
		delim, ok := tok.(json.Delim)
		if !ok {
			return true
		}
		for i := 0; dec.More(); i++ {
			key := strconv.Itoa(i)
			if delim == '{' {
				tok, err := dec.Token()
				if err != nil {
					return false
				}
				key = fmt.Sprint(tok)
			}
			if !walk(at+"/"+key, depth+1) {
				return false
			}
		}
		_, err = dec.Token()
		return err == nil
	}
	walk("", 0)
	return places
}

// offset finds the place of a JSON pointer in the rendered configuration, or
// of the nearest enclosing value.
func (r *renderer) offset(pointer string) int {
	if r.places == nil {
		r.places = jsonPlaces(r.config.out)
	}
	for {
		if off, ok := r.places[pointer]; ok {
			return off
		}
		i := strings.LastIndexByte(pointer, '/')
		if i < 0 {
			return 0
		}
		pointer = pointer[:i]
	}
}

// checkFragments reports values that would break out of their place in a JSON
// template. Inside a string a value must not end the string; elsewhere it may
// be any piece of JSON, as the contract's ADDTL_MOUNTS is, as long as it
// closes what it opens and nothing else.
func checkFragments(t *text, probs *Problems) {
	inString, escaped := false, false
	for i, p := range t.parts {
		end := len(t.out)
		if i+1 < len(t.parts) {
			end = t.parts[i+1].out
		}
		if p.name != "" {
			var why string
			if inString {
				why = badStringPiece(p.val)
			} else {
				why = badJSONPiece(p.val)
			}
			if why != "" {
				probs.add(t.problem(p.out, "%s", why))
			}
			if inString || why != "" {
				escaped = false
				continue
			}
		}
		for _, c := range t.out[p.out:end] {
			switch {
			case escaped:
				escaped = false
			case inString && c == '\\':
				escaped = true
			case c == '"':
				inString = !inString
			}
		}
	}
}

func badStringPiece(s string) string {
	escaped := false
	for _, c := range []byte(s) {
		switch {
		case escaped:
			escaped = false
		case c == '\\':
			escaped = true
		case c == '"':
			return "contains a double quote, which would end the JSON string it is put in"
		case c < ' ':
			return fmt.Sprintf("contains the control character %q, which a JSON string cannot", c)
		}
	}
	if escaped {
		return "ends with a backslash, which would hide the end of the JSON string it is put in"
	}
	return ""
}

func badJSONPiece(s string) string {
	var open []byte
	inString, escaped := false, false
	for _, c := range []byte(s) {
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{', c == '[':
			open = append(open, c+2) // the closing bracket in ASCII
		case c == '}', c == ']':
			if len(open) == 0 || open[len(open)-1] != c {
				return fmt.Sprintf("closes a %q that it did not open", c)
			}
			open = open[:len(open)-1]
		}
	}
	if inString || len(open) > 0 {
		return "does not close what it opens"
	}
	return ""
}
