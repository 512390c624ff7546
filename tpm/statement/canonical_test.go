// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// same compares Canonical with a library that knows all of RFC 8785.
func same(t *testing.T, value any) {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	want, err := jcs.Transform(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if got, err := Canonical(value); err != nil || string(got) != string(want) {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestCanonical(t *testing.T) {
	var every strings.Builder
	for c := range rune(0x180) {
		every.WriteRune(c)
	}
	for _, value := range []any{
		nil, true, 0, -7, maxInteger, -maxInteger, "", every.String(), "<&>\u2028\u2029\ufeff\uffff", "\U0001f600é", "bad \xff\xc0 utf-8",
		[]any{},
		[]any{1, "a", nil, []string{"b"}},
		map[string]any{},
		map[string]any{"b": 1, "a": map[string]any{"z": false, "": "x"}, "ab": []int{3, 2}, "B": nil},
		map[string]string{"\ufb33": "1", "\U0001f600": "2", "\u20ac": "3", "\r": "4", "1": "5", "\u0080": "6", "ö": "7"},
		map[string]string{"\U00010000": "", "\U00010001": "", "\uffff": "", "\ud7ff": "", "\ue000": "", "\U0001f600a": "", "\U0001f600": ""},
	} {
		same(t, value)
	}
	for _, value := range []any{1.5, maxInteger + 1, uint64(math.MaxUint64), 1e300, math.NaN(), make(chan int)} {
		if got, err := Canonical(value); err == nil {
			t.Errorf("%v is %s", value, got)
		}
	}
}

// FuzzCanonical compares names and values of any text with the library.
func FuzzCanonical(f *testing.F) {
	f.Add("a", "b", "c\x00\"\\")
	f.Add("\U0001f600", "\uffff", "\u2028")
	f.Fuzz(func(t *testing.T, name, other, text string) {
		if name == other || !utf8.ValidString(name) || !utf8.ValidString(other) {
			t.Skip("not two names")
		}
		same(t, map[string]any{name: text, other: []string{name, text}})
	})
}
