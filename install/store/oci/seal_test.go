// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"archive/tar"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/dump"
	"github.com/atomic-agent/atomic/install/store/erofs"
	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// TestSeal pulls images whose publisher has said what their file system is.
func TestSeal(t *testing.T) {
	usr := dir("usr/")
	usr.Mode, usr.ModTime, usr.Uid = 0o555, time.Unix(1000, 0), 3
	run := dir("run")
	run.ModTime = time.Unix(2000, 0)
	tiny := file("usr/tiny", "tiny")
	tiny.ModTime = time.Unix(3000, 0)
	tiny.PAXRecords = map[string]string{"SCHILY.xattr.user.mine": "x", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	hard := entry{tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "run/gone"}, ""}
	layer := archive(t, usr, run, tiny, file("run/gone", "g"), hard)

	// The same as composefs sees it: the root is like /usr, /run is empty.
	const sealed = `/ 4096 40555 4 3 0 0 1000.0 - - -
/hard 1 100644 1 0 0 0 0.0 - g -
/run 4096 40755 2 0 0 0 1000.0 - - -
/usr 4096 40555 2 3 0 0 1000.0 - - -
/usr/tiny 4 100644 1 0 0 0 3000.0 - tiny - security.capability=\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
`
	want, err := dump.Read(strings.NewReader(sealed))
	if err != nil {
		t.Fatal(err)
	}
	var h verity.Hasher
	if err := erofs.Write(&h, want, 1); err != nil {
		t.Fatal(err)
	}
	good := h.Sum().String()
	const merged = "composefs.merged.erofs.v1.fsverity-sha256-12"
	for _, tt := range []struct {
		name        string
		annotations map[string]string
		refused     bool
	}{
		{"not sealed", nil, false},
		{"sealed", map[string]string{merged: good}, false},
		{"another tree", map[string]string{merged: strings.Repeat("ab", 32)}, true},
		{"no digest", map[string]string{merged: "yes"}, true},
		{"upper case", map[string]string{merged: strings.ToUpper(good)}, true},
		{"another algorithm", map[string]string{"composefs.merged.erofs.v1.fsverity-sha512-12": "00"}, false},
		{"boot variant", map[string]string{"composefs.merged.bootable.erofs.v1.fsverity-sha256-12": "00"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := copySealed(t, newTxn(t), tt.annotations, layer)
			switch {
			case errors.Is(err, store.ErrSeal) != tt.refused || err != nil && !tt.refused:
				t.Errorf("%v", err)
			case err != nil && (!strings.Contains(err.Error(), good) || hint.Of(err) == ""):
				t.Errorf("the error does not say what the digest is, or what to do: %v", err)
			}
		})
	}
}
