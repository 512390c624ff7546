// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/install/record"
)

// shown is what a glance reads of a record.
func shown(r *record.Record) record.Record {
	return record.Record{
		Image: r.Image, Revision: r.Revision, Created: r.Created, Runtime: r.Runtime, HasContainerService: r.HasContainerService,
		Atomic: record.Deployment{
			Version: r.Atomic.Version, Name: r.Atomic.Name, Generation: r.Atomic.Generation, Signature: r.Atomic.Signature,
			Rootfs: record.Rootfs{Enforced: r.Atomic.Rootfs.Enforced},
		},
	}
}

func exampleRecord(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("record/testdata/info.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestGlance(t *testing.T) {
	example := exampleRecord(t)
	rec, err := record.Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	got, err := glance([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shown(rec), *got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, tt := range []struct{ name, old, new string }{
		{"truncated", "}\n}\n", "}\n"},
		{"data after it", "}\n}\n", "}\n}\n{}"},
		{"unknown version", `"version": 1`, `"version": 2`},
		{"missing", `"image":`, `"images":`},
		{"twice", `"image":`, `"image": "x", "image":`},
		{"wrong type", `"created": `, `"created": "x" `},
		{"escaped key", `"image":`, `"\u0069mage":`},
		{"unterminated string", `"enforced": true`, `"enforced": "true`},
		{"empty", example, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(example, tt.old, tt.new, 1)
			if changed == example {
				t.Fatal("nothing was replaced")
			}
			if _, err := glance([]byte(changed)); err == nil {
				t.Error("taken at a glance")
			}
		})
	}
}

// FuzzGlance checks that a glance never says anything else than the whole
// record does.
func FuzzGlance(f *testing.F) {
	f.Add([]byte(exampleRecord(f)))
	f.Add([]byte(`{"image":"\\\"}","atomic":{"version":1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := glance(data)
		if err != nil {
			return
		}
		rec, err := record.Parse(data)
		if err != nil {
			return // for `atomic verify` to say
		}
		if diff := cmp.Diff(shown(rec), *got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
