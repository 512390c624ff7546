// SPDX-License-Identifier: Apache-2.0

package verity_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/install/store/verity"
)

// pattern is n bytes that repeat with a period that is no power of two.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// The digests are what fsverity(1), and for files that are not empty
// composefs-info measure-file, say.
var vectors = []struct {
	size   int
	digest string
}{
	{0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"},
	{1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"},
	{64, "82e78d1b03af63fe2c17a967ec3264787e36f598abeae346f2fccb1ed6983846"},
	{4095, "5f4953aad672b0188023d6cd6fbce9d09508eb7dad165b6298ce0086bc1e72db"},
	{4096, "13e9b8848ae484a36acb3f3cac0ceb2f7601e96633d15c92f9bd3dd44e492157"},
	{4097, "b0d074abef4d544404facfab6ba242f6a8ccbde90f1325cd286f3c8aa8d0f8aa"},
	{8192, "e48d50c56c4f0178a98a035cb91d66be328eeff78bbddaa35c5ec4cc0d8340c0"},
	{524288, "d82861203d50ae9b60948504a704f35f5118bd229aeb1a22d6dae47b1767c4c4"},
	{524289, "4dc6905041c9c4ee73e13b53f63f5d289c46da359b664a965ead7f8cc4d799d4"},
	{67108864, "196650e8bd05f8516c0ede56deeb4d1ff2be9809dc2d827261db4a7773957567"},
	{67108865, "acba6554fbff4e8b2fc0361086b9e8ed6afbbd3196ade159c0f3e2bf9ecb2ed1"},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		if got := verity.Of(pattern(v.size)).String(); got != v.digest {
			t.Errorf("%d bytes: %s, want %s", v.size, got, v.digest)
		}
	}
}

// TestPieces checks that it does not matter how the content arrives, and that
// a Hasher can be used again.
func TestPieces(t *testing.T) {
	var h verity.Hasher
	for seed := range uint64(50) {
		g := rand.New(rand.NewPCG(seed, 1))
		content := pattern(g.IntN(600_000))
		h.Reset()
		for rest := content; len(rest) > 0; {
			n := 1 + g.IntN(min(len(rest), 9000))
			if _, err := h.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if got, want := h.Sum(), verity.Of(content); got != want {
			t.Errorf("seed %d, %d bytes: %s, want %s", seed, len(content), got, want)
		}
	}
}

func TestOfReader(t *testing.T) {
	d, n, err := verity.OfReader(bytes.NewReader(pattern(4097)))
	if err != nil || n != 4097 || d.String() != vectors[5].digest {
		t.Errorf("%s, %d, %v", d, n, err)
	}
	if _, _, err := verity.OfReader(io.MultiReader(strings.NewReader("x"), failing{})); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error %v", err)
	}
}

func TestOfParallel(t *testing.T) {
	const unit = 128 * verity.BlockSize
	content := pattern(129*unit + 5000)
	for _, size := range []int{0, 1, unit - 1, unit, unit + 1, 2 * unit, 5*unit + 4097, 128 * unit, 128*unit + 1, len(content)} {
		if got, want := verity.OfParallel(content[:size]), verity.Of(content[:size]); got != want {
			t.Errorf("%d bytes: %s, want %s", size, got, want)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func TestParse(t *testing.T) {
	d, err := verity.Parse(vectors[1].digest)
	if err != nil || d.String() != vectors[1].digest {
		t.Errorf("%s, %v", d, err)
	}
	if want := vectors[1].digest[:2] + "/" + vectors[1].digest[2:]; d.Path() != want {
		t.Errorf("path %s, want %s", d.Path(), want)
	}
	for _, bad := range []string{"", "00", strings.ToUpper(vectors[1].digest), vectors[1].digest + "0", "../../" + vectors[1].digest[6:]} {
		if _, err := verity.Parse(bad); err == nil {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}

// TestKernel compares with the kernel where there is fs-verity.
func TestKernel(t *testing.T) {
	for _, v := range vectors[1:6] {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, pattern(v.size), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verity.Measure(f); !errors.Is(err, verity.ErrNotEnabled) {
			t.Errorf("measure before enable: %v", err)
		}
		err = verity.Enable(f)
		if errors.Is(err, verity.ErrUnsupported) {
			f.Close()
			t.Skip("no fs-verity on this file system")
		}
		if err == nil {
			err = verity.Enable(f) // again
		}
		if err != nil {
			t.Fatal(err)
		}
		if d, err := verity.Measure(f); err != nil || d.String() != v.digest {
			t.Errorf("the kernel measures %s, %v, want %s", d, err, v.digest)
		}
		f.Close()
	}
}

func BenchmarkHasher(b *testing.B) {
	content := pattern(1 << 20)
	var h verity.Hasher
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		h.Reset()
		_, _ = h.Write(content)
		if h.Sum() == sha256.Sum256(nil) {
			b.Fatal("impossible")
		}
	}
}
