// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"strings"
)

// setting is one assignment of a unit file.
type setting struct {
	section, key, value string
	offset              int // of its line in the text
}

// parseUnit reads a unit file the way systemd does: comments, sections,
// assignments and continued lines. It reports lines that systemd would ignore
// with a warning, because an ignored line is a broken promise.
func parseUnit(t *text, probs *Problems) []setting {
	if !checkControl(t, probs) {
		return nil
	}
	var all []setting
	section := ""
	rest := string(t.out)
	offset := 0
	var logical strings.Builder
	start := -1
	for len(rest) > 0 {
		line, more, _ := strings.Cut(rest, "\n")
		at := offset
		offset += len(rest) - len(more)
		rest = more
		trimmed := strings.Trim(line, blanks)
		if strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") {
			continue // even between continued lines
		}
		if start < 0 {
			start = at
		}
		if continued(line) && rest != "" {
			logical.WriteString(line[:len(line)-1])
			logical.WriteByte(' ')
			continue
		}
		logical.WriteString(line)
		l := strings.Trim(logical.String(), blanks)
		at, start = start, -1
		logical.Reset()
		switch {
		case l == "":
		case l[0] == '[':
			if l[len(l)-1] != ']' {
				probs.add(t.problem(at, "section header %q has no closing bracket", l))
				continue
			}
			section = l[1 : len(l)-1]
			switch {
			case section == "Unit", section == "Service", section == "Install", strings.HasPrefix(section, "X-"):
			default:
				probs.add(t.problem(at, "unknown section [%s] in a service", section))
			}
		default:
			key, value, ok := strings.Cut(l, "=")
			key = strings.Trim(key, blanks)
			switch {
			case !ok || key == "":
				probs.add(t.problem(at, "neither section nor assignment: %q", l))
			case section == "":
				probs.add(t.problem(at, "%s= is outside of any section", key))
			default:
				all = append(all, setting{section, key, strings.Trim(value, blanks), at})
			}
		}
	}
	return all
}

// blanks is what systemd strips.
const blanks = " \t\r\n"

// checkControl reports control characters other than tabs and line ends in a
// text that systemd reads: a carriage return or a NUL byte ends a line for it,
// and so hides one from people.
func checkControl(t *text, probs *Problems) bool {
	for i, c := range t.out {
		crlf := c == '\r' && i+1 < len(t.out) && t.out[i+1] == '\n'
		if (c < ' ' || c == 0x7f) && c != '\t' && c != '\n' && !crlf {
			probs.add(t.problem(i, "control character %q", c))
			return false
		}
	}
	return true
}

// continued reports whether a line ends in an unescaped backslash.
func continued(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// last returns the value in force of a setting that takes one value.
func last(settings []setting, section, key string) (string, bool) {
	val, ok := "", false
	for _, s := range settings {
		if s.section == section && s.key == key {
			val, ok = s.value, s.value != ""
		}
	}
	return val, ok
}

// inForce returns the value of a setting of the service: the administrator's, or
// else the template's.
func (r *renderer) inForce(key string) string {
	value, _ := last(r.settings, "Service", key)
	for _, p := range r.in.Options.Properties {
		if k, given, _ := strings.Cut(p, "="); k == key {
			value = given
		}
	}
	return strings.TrimSpace(value)
}

// checkLines reports values that would add or join lines of a line-based
// template, and in a tmpfiles template those that would shift its fields. It
// returns whether there were none.
func checkLines(t *text, fields bool, probs *Problems) bool {
	before := len(probs.List)
	for i, p := range t.parts {
		if p.name == "" || p.val == "" {
			continue
		}
		switch {
		case strings.ContainsFunc(p.val, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
			probs.add(t.problem(p.out, "contains a line break or another control character"))
		case strings.HasSuffix(p.val, `\`) && endsLine(t, i):
			probs.add(t.problem(p.out, "ends its line with a backslash, which would swallow the next line"))
		case fields && strings.ContainsAny(p.val, " \t\"'\\") && !inArgument(t, p):
			probs.add(t.problem(p.out, "contains a blank, a quote or a backslash, which would shift the fields of the line"))
		}
	}
	return len(probs.List) == before
}

func endsLine(t *text, i int) bool {
	if i+1 == len(t.parts) {
		return true
	}
	next := t.parts[i+1].out
	return next >= len(t.out) || t.out[next] == '\n'
}

// inArgument reports whether a value stands in the argument of a tmpfiles
// line, the seventh field, which may hold anything.
func inArgument(t *text, p part) bool {
	start := strings.LastIndexByte(t.src[:p.src], '\n') + 1
	before := t.src[start:p.src]
	n := len(strings.Fields(before))
	if before != "" && !strings.HasSuffix(before, " ") && !strings.HasSuffix(before, "\t") {
		n-- // the field that the value is in has begun
	}
	return n >= 6
}
