// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

// A text is the result of a substitution together with the way back: which
// byte of the result came from which place of the template.
type text struct {
	file  string
	src   string
	out   []byte
	parts []part
}

// A part is a run of bytes of the result: either copied from the template
// (name is empty) or the value of a variable.
type part struct {
	out  int // offset of its first byte in the result
	src  int // offset of its first byte in the template
	name string
	val  string
}

// plain is a text without variables.
func plain(file string, content []byte) *text {
	return &text{file: file, src: string(content), out: content, parts: []part{{}}}
}

// substitute renders src the way Python's string.Template.substitute does:
// $name, ${name} and $$, one pass, values inserted literally. Every variable
// without a value and every stray $ is reported; the result is nil then.
func substitute(file string, content []byte, values map[string]string, probs *Problems) *text {
	t := &text{file: file, src: string(content)}
	ok := true
	rest := 0 // start of the literal run that is not yet copied
	literal := func(end int) {
		if rest < end || len(t.parts) == 0 {
			t.parts = append(t.parts, part{out: len(t.out), src: rest})
		}
		t.out = append(t.out, t.src[rest:end]...)
	}
	for i := 0; i < len(t.src); {
		j := strings.IndexByte(t.src[i:], '$')
		if j < 0 {
			break
		}
		i += j
		name, size := placeholder(t.src[i:])
		switch name {
		case "$":
			literal(i + 1)
		case "":
			ok = false
			line, col := position(t.src, i)
			probs.addf(file, line, col, "Invalid placeholder in string: line %d, col %d", line, col)
			size = 1
			literal(i)
		default:
			literal(i)
			val, known := values[name]
			if !known {
				ok = false
				line, col := position(t.src, i)
				probs.addf(file, line, col, "the template file '%s' still contains an unreplaced value for: ''%s''", file, name)
				probs.Unset = append(probs.Unset, name)
			}
			t.parts = append(t.parts, part{out: len(t.out), src: i, name: name, val: val})
			t.out = append(t.out, val...)
		}
		i += size
		rest = i
	}
	literal(len(t.src))
	if !ok {
		return nil
	}
	return t
}

// placeholder parses the placeholder at the start of s, which begins with a
// dollar sign. The name is "$" for an escaped dollar and empty if there is no
// valid placeholder; size is its length in bytes.
func placeholder(s string) (name string, size int) {
	if strings.HasPrefix(s, "$$") {
		return "$", 2
	}
	if strings.HasPrefix(s, "${") {
		if n := identifier(s[2:]); n > 0 && strings.HasPrefix(s[2+n:], "}") {
			return s[2 : 2+n], n + 3
		}
		return "", 0
	}
	n := identifier(s[1:])
	if n == 0 {
		return "", 0
	}
	return s[1 : 1+n], n + 1
}

// identifier returns the length of the variable name at the start of s.
func identifier(s string) int {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case i > 0 && c >= '0' && c <= '9':
		default:
			return i
		}
	}
	return len(s)
}

// position returns the line and the column, counted in characters, of a byte
// offset. Both count from 1.
func position(s string, offset int) (line, column int) {
	offset = min(max(offset, 0), len(s))
	line = 1 + strings.Count(s[:offset], "\n")
	start := strings.LastIndexByte(s[:offset], '\n') + 1
	return line, 1 + utf8.RuneCountInString(s[start:offset])
}

// at returns the template position that the byte at an offset of the result
// came from, and the variable if it came from a value.
func (t *text) at(offset int) (line, column int, variable string) {
	i := sort.Search(len(t.parts), func(i int) bool { return t.parts[i].out > offset }) - 1
	if i < 0 {
		return 1, 1, ""
	}
	p := t.parts[i]
	if p.name != "" {
		line, column = position(t.src, p.src)
		return line, column, p.name
	}
	line, column = position(t.src, p.src+offset-p.out)
	return line, column, ""
}

// problem is a problem at an offset of the result.
func (t *text) problem(offset int, format string, args ...any) Problem {
	line, col, name := t.at(offset)
	return Problem{File: t.file, Line: line, Column: col, Variable: name, Text: fmt.Sprintf(format, args...)}
}

// where names the template line of an offset, for a permission's Why.
func (t *text) where(offset int) string {
	line, _, _ := t.at(offset)
	return fmt.Sprintf("%s:%d", t.file, line)
}
