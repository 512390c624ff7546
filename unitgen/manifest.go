// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const manifestFile = "/exports/manifest.json"

// Manifest is an image's manifest.json.
type Manifest struct {
	// DefaultValues are the image's defaults in the text form that the
	// contract inserts: true is "True", null is "None".
	DefaultValues map[string]string
	// RenameFiles maps host paths of hostfs files to the (unsubstituted)
	// paths they are installed at.
	RenameFiles map[string]string
	// InstalledFilesTemplate are the destinations of files that are
	// substituted; variables in the paths themselves are replaced first.
	InstalledFilesTemplate []string
	NoContainerService     bool
	UseLinks               bool

	renameAt map[string]int // the offset of each key of RenameFiles
}

// ParseManifest reads a manifest.json; nil is an absent one. The error is
// *Problems.
func ParseManifest(content []byte) (Manifest, error) {
	m := Manifest{DefaultValues: map[string]string{}, RenameFiles: map[string]string{}, UseLinks: true, renameAt: map[string]int{}}
	if content == nil {
		return m, nil
	}
	probs := &Problems{}
	doc := plain(manifestFile, content)
	top, err := decodeOrdered(content)
	if err != nil {
		probs.add(doc.problem(jsonOffset(err, content), "Invalid manifest.json file in image: %v", err))
		return m, probs.err()
	}
	obj, ok := top.(object)
	if !ok {
		probs.addf(manifestFile, 1, 1, "Invalid manifest.json file in image: not an object")
		return m, probs.err()
	}
	for _, f := range obj {
		bad := func(format string, args ...any) { probs.add(doc.problem(f.offset, format, args...)) }
		if err := m.set(f, bad); err != nil {
			bad("%q: %v", f.key, err)
		}
	}
	return m, probs.err()
}

// set stores one key of the manifest. Unknown keys (and "version", which
// nobody ever read) are ignored.
func (m *Manifest) set(f field, bad func(string, ...any)) error {
	var ok bool
	switch f.key {
	case "defaultValues":
		obj, ok := f.value.(object)
		if !ok {
			return errors.New("must be an object")
		}
		for _, d := range obj {
			if identifier(d.key) != len(d.key) || d.key == "" {
				bad("defaultValues: %q is not a variable name, so no template can use it", d.key)
			}
			m.DefaultValues[d.key] = pyString(d.value)
		}
	case "renameFiles":
		obj, ok := f.value.(object)
		if !ok {
			return errors.New("must be an object")
		}
		for _, r := range obj {
			dst, ok := r.value.(string)
			if !ok || !path.IsAbs(r.key) {
				bad("renameFiles: %q: both must be absolute paths", r.key)
				continue
			}
			m.RenameFiles[r.key], m.renameAt[r.key] = dst, r.offset
		}
	case "installedFilesTemplate":
		list, ok := f.value.([]any)
		if !ok {
			return errors.New("must be a list")
		}
		for _, e := range list {
			p, ok := e.(string)
			if !ok {
				return errors.New("must be a list of paths")
			}
			m.InstalledFilesTemplate = append(m.InstalledFilesTemplate, p)
		}
	case "noContainerService":
		if m.NoContainerService, ok = f.value.(bool); !ok {
			return errors.New("must be true or false")
		}
	case "useLinks":
		if m.UseLinks, ok = f.value.(bool); !ok {
			return errors.New("must be true or false")
		}
	}
	return nil
}

// object is a JSON object with the order of its keys.
type object []field

type field struct {
	key    string
	offset int // of the key in the document
	value  any // nil, bool, json.Number, string, []any or object
}

func (o object) get(key string) any {
	for _, f := range slices.Backward(o) {
		if f.key == key {
			return f.value
		}
	}
	return nil
}

// decodeOrdered parses a JSON document, keeping the order of keys and the
// spelling of numbers, both of which show in pyString.
func decodeOrdered(content []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if errors.Is(err, io.EOF) {
		return nil, errors.New("unexpected end of JSON input")
	}
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err == nil {
		return nil, errors.New("data after the end")
	}
	return v, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > 100 {
		return nil, errors.New("nested too deeply")
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		obj := object{}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name, ok := key.(string)
			if !ok {
				return nil, fmt.Errorf("key is %v", key)
			}
			// The offset is that of the end of the key; step back over it.
			off := int(dec.InputOffset()) - len(name) - 2
			v, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			obj = append(obj, field{name, off, v})
		}
		_, err = dec.Token()
		return obj, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	}
	return tok, nil
}

// jsonOffset is where a JSON document is wrong.
func jsonOffset(err error, content []byte) int {
	var syn *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syn):
		return max(int(syn.Offset)-1, 0)
	case errors.As(err, &typ):
		return max(int(typ.Offset)-1, 0)
	}
	return len(content)
}

// pyString is str(value) in Python, pyRepr is repr(value): the contract
// inserts default values that are not strings in this form.
func pyString(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pyRepr(v)
}

func pyRepr(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case json.Number:
		return pyNumber(v.String())
	case string:
		return pyQuote(v)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = pyRepr(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case object:
		var parts []string
		for i, f := range v {
			if slices.ContainsFunc(v[:i], func(g field) bool { return g.key == f.key }) {
				continue // a repeated key keeps its first place and its last value
			}
			parts = append(parts, pyQuote(f.key)+": "+pyRepr(v.get(f.key)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprint(v)
}

// pyNumber is the repr of a number: integers as written, others in the
// shortest form, always with a point or an exponent.
func pyNumber(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		if s == "-0" {
			return "0"
		}
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		if f < 0 {
			return "-inf"
		}
		return "inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	r := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(r, ".") {
		r += ".0"
	}
	return r
}

func pyQuote(s string) string {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, c := range s {
		switch {
		case c == quote, c == '\\':
			b.WriteRune('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		case !unicode.IsPrint(c) && c <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, c)
		case !unicode.IsPrint(c) && c <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, c)
		case !unicode.IsPrint(c):
			fmt.Fprintf(&b, `\U%08x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteRune(quote)
	return b.String()
}
