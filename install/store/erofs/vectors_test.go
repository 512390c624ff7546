// SPDX-License-Identifier: Apache-2.0

package erofs_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/install/store/dump"
	"github.com/atomic-agent/atomic/install/store/erofs"
	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// TestPinnedDigests compares with fs-verity digests that upstream's other
// implementation, composefs-rs, pins in its tests.
func TestPinnedDigests(t *testing.T) {
	const (
		empty  = "/ 4096 40755 2 0 0 0 0.0 - - -\n"
		simple = empty +
			"/blkdev 0 60000 1 0 0 123 0.0 - - -\n" +
			"/chrdev 0 20000 1 0 0 123 0.0 - - -\n" +
			"/fifo 0 10000 1 0 0 0 0.0 - - -\n" +
			"/regular-external 1234 100000 1 0 0 0 0.0 5a/5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a - 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\n" +
			"/regular-inline 4 100000 1 0 0 0 0.0 - hihi -\n" +
			"/socket 0 140000 1 0 0 0 0.0 - - -\n" +
			"/symlink 7 120000 1 0 0 0 0.0 /target - -\n"
	)
	for _, tt := range []struct {
		name, text string
		version    uint32
		want       string
	}{
		{"empty", empty, 0, "8f589e8f57ecb88823736b0d857ddca1e1068a23e264fad164b28f7038eb3682"},
		{"empty", empty, 1, "14a26c957c84f6eb774b91205476adc13196c7c33b9dd97d08d43725ecb90b63"},
		{"simple", simple, 0, "9f3f5620ee0c54708516467d0d58741e7963047c7106b245d94c298259d0fa01"},
		{"simple", simple, 1, "ad6db6427568a1e4fdc772cbab7b6063f5eb4b33cb62982a740ba9213e5962b5"},
	} {
		tr, err := dump.Read(strings.NewReader(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		var h verity.Hasher
		if err := erofs.Write(&h, tr, tt.version); err != nil {
			t.Fatal(err)
		}
		if got := h.Sum().String(); got != tt.want {
			t.Errorf("%s, version %d: %s, want %s", tt.name, tt.version, got, tt.want)
		}
	}
}

// TestUpstreamAssets makes the images of upstream's test assets, dump files
// with the SHA-256 of their images, and refuses those that upstream refuses.
func TestUpstreamAssets(t *testing.T) {
	dir := os.Getenv("ATOMIC_COMPOSEFS_ASSETS")
	if dir == "" {
		t.Skip("no assets: set ATOMIC_COMPOSEFS_ASSETS to what test/oracle/assets.sh prints")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.dump*"))
	if err != nil {
		t.Fatal(err)
	}
	made, refused := 0, 0
	for _, file := range files {
		name := filepath.Base(file)
		if !strings.HasSuffix(name, ".dump") && !strings.HasSuffix(name, ".dump.gz") {
			continue
		}
		if why, ok := stricter[name]; ok {
			t.Logf("%s left out: %s", name, why)
			continue
		}
		got, err := makeAsset(t, file)
		if strings.HasPrefix(name, "should-fail-") {
			if refused++; err == nil {
				t.Errorf("%s: accepted", name)
			}
			continue
		}
		want, rerr := os.ReadFile(file + ".sha256")
		if rerr != nil {
			t.Errorf("%s: %v", name, rerr)
			continue
		}
		if made++; err != nil || got != strings.TrimSpace(string(want)) {
			t.Errorf("%s: %s, %v, want %s", name, got, err, bytes.TrimSpace(want))
		}
	}
	t.Logf("%d images made, %d refused", made, refused)
	if made < 10 || refused < 10 {
		t.Errorf("%s has only %d and %d assets", dir, made, refused)
	}
}

// stricter are the assets that are judged in different ways on purpose.
var stricter = map[string]string{
	"honggfuzz-longlink-unterminated.dump":  "upstream takes the missing fields for empty ones",
	"should-fail-honggfuzz-long-xattr.dump": "upstream's limit for the attributes of a file is here that of the importer",
}

// makeAsset returns the SHA-256 of an asset's image. Like upstream's program it
// uses format version 0 unless something needs the other.
func makeAsset(t *testing.T, file string) (string, error) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(file, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	version, given := uint64(0), true
	if b, err := os.ReadFile(file + ".version"); err == nil {
		if version, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err != nil {
			t.Fatal(err)
		}
	} else if given = false; !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	tr, err := dump.Read(r)
	if err != nil {
		return "", err
	}
	_ = tr.Walk("/", func(_ string, n *tree.Node) error { // fn never fails
		if n.IsWhiteoutDevice() && !given {
			version = 1
		}
		return nil
	})
	h := sha256.New()
	if err := erofs.Write(h, tr, uint32(version)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
