// SPDX-License-Identifier: Apache-2.0

package dump_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/install/store/dump"
)

const example = `/ 0 40755 0 0 0 0 1.0 - - - user.k\x3d=v\x3d\x20\x00
/dir 0 40700 0 1 2 0 1.5 - - -
/dir/dash 1 100644 1 0 0 0 1.0 - \x2d -
/dir/inline 5 100644 1 0 0 0 1.0 - a\nb\\c -
/dir/link 4 120777 1 0 0 0 1.0 /a\x20b - -
/dir/null 0 20666 1 0 0 259 1.0 - - -
/dir/object 70 100755 2 0 0 0 1.0 01/` + hex62 + ` - 01` + hex62 + `
/hard 0 @100644 1 0 0 0 0.0 /dir/object - -
/path 99 100644 1 0 0 0 1.0 some/where - -
`

const hex62 = "00000000000000000000000000000000000000000000000000000000000002"

func TestRoundTrip(t *testing.T) {
	tr, err := dump.Read(strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := dump.Write(&got, tr); err != nil {
		t.Fatal(err)
	}
	if got.String() != example {
		t.Errorf("got\n%s\nwant\n%s", got.String(), example)
	}
}

func TestReadRefuses(t *testing.T) {
	const root = "/ 0 40755 0 0 0 0 1.0 - - -\n"
	tests := []struct{ name, in, want string }{
		{"nothing", "", "no root"},
		{"no root", "/a 0 100644 1 0 0 0 1.0 - - -\n", "not the first line"},
		{"root is a file", "/ 0 100644 1 0 0 0 1.0 - - -\n", "not a directory"},
		{"two roots", root + root, "second root"},
		{"short line", root + "/a 0 100644\n", "3 fields"},
		{"twice", root + "/a 0 100644 1 0 0 0 1.0 - - -\n/a 0 100644 1 0 0 0 1.0 - - -\n", "there twice"},
		{"no parent", root + "/a/b 0 100644 1 0 0 0 1.0 - - -\n", "no parent"},
		{"parent is a file", root + "/a 0 100644 1 0 0 0 1.0 - - -\n/a/b 0 100644 1 0 0 0 1.0 - - -\n", "no parent"},
		{"relative", root + "a 0 100644 1 0 0 0 1.0 - - -\n", "not absolute"},
		{"dot dot", root + "/a/../b 0 100644 1 0 0 0 1.0 - - -\n", "not clean"},
		{"dot", root + "/. 0 100644 1 0 0 0 1.0 - - -\n", "not clean"},
		{"NUL", root + "/a\x00 0 100644 1 0 0 0 1.0 - - -\n", "NUL"},
		{"escaped NUL", root + "/a\\x00 0 100644 1 0 0 0 1.0 - - -\n", "not clean"},
		{"long name", root + "/" + strings.Repeat("a", 256) + " 0 100644 1 0 0 0 1.0 - - -\n", "longer than 255"},
		{"no type", root + "/a 0 644 1 0 0 0 1.0 - - -\n", "unknown file type"},
		{"bad escape", root + "/a\\q 0 100644 1 0 0 0 1.0 - - -\n", "unknown escape"},
		{"half escape", root + "/a\\x1 0 100644 1 0 0 0 1.0 - - -\n", "short"},
		{"size and content", root + "/a 5 100644 1 0 0 0 1.0 - x -\n", "1 bytes of content, size 5"},
		{"big content", root + "/a 5001 100644 1 0 0 0 1.0 - " + strings.Repeat("x", 5001) + " -\n", "5001 bytes of content"},
		{"empty symlink", root + "/a 0 120777 1 0 0 0 1.0 - - -\n", "symlink without"},
		{"bad digest", root + "/a 9 100644 1 0 0 0 1.0 - - xyz\n", "64 hex digits"},
		{"xattr without value", root + "/a 0 100644 1 0 0 0 1.0 - - - user.a\n", "without ="},
		{"xattr without name", root + "/a 0 100644 1 0 0 0 1.0 - - - =v\n", "unusable xattr"},
		{"hard link to nothing", root + "/a 0 @100644 1 0 0 0 1.0 /b - -\n", "which is no file"},
		{"hard link to itself", root + "/a 0 @100644 1 0 0 0 1.0 /a - -\n", "which is no file"},
		{"hard link to a directory", root + "/a 0 @100644 1 0 0 0 1.0 / - -\n", "which is no file"},
		{"nanoseconds", root + "/a 0 100644 1 0 0 0 1.1000000000 - - -\n", "nanoseconds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := dump.Read(strings.NewReader(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(example))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := dump.Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		var text, again bytes.Buffer
		if err := dump.Write(&text, tr); err != nil {
			t.Fatal(err)
		}
		back, err := dump.Read(bytes.NewReader(text.Bytes()))
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, text.String())
		}
		if err := dump.Write(&again, back); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text.Bytes(), again.Bytes()) {
			t.Errorf("first\n%s\nthen\n%s", text.String(), again.String())
		}
	})
}
