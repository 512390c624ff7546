// SPDX-License-Identifier: Apache-2.0

package inflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"testing"
	"testing/iotest"
)

// inflate is the decoder alone, without gzip around it.
func inflate(r io.Reader) ([]byte, error) {
	d := &decoder{}
	d.reset(r)
	var out []byte
	for {
		err := d.decode()
		out = append(out, d.out[d.rp:d.op]...)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

// samples are kinds of content: what compresses well, badly, at distances of
// all sizes.
func samples(t testing.TB) map[string][]byte {
	rnd := rand.New(rand.NewSource(1))
	noise := make([]byte, 300<<10)
	rnd.Read(noise)
	few := make([]byte, 400<<10)
	for i := range few {
		few[i] = "etaoin shrdlu\n"[min(rnd.Intn(14), rnd.Intn(14))]
	}
	skewed := make([]byte, 500<<10) // codes of all lengths
	for i := range skewed {
		skewed[i] = byte(rnd.ExpFloat64() * 12)
	}
	var far []byte
	for len(far) < 600<<10 {
		switch n := rnd.Intn(300); rnd.Intn(4) {
		case 0:
			far = append(far, noise[:n]...)
		default:
			if at := len(far) - 1 - rnd.Intn(33<<10); at >= 0 {
				for range n {
					far = append(far, far[at])
					at++
				}
			} else {
				far = append(far, byte(n))
			}
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"empty": nil, "byte": {7}, "zeros": make([]byte, 1<<20), "noise": noise,
		"text": few, "skewed": skewed, "matches": far, "program": self[:min(len(self), 4<<20)],
	}
}

func TestReader(t *testing.T) {
	for name, want := range samples(t) {
		for _, level := range []int{gzip.NoCompression, gzip.BestSpeed, gzip.DefaultCompression, gzip.BestCompression, gzip.HuffmanOnly} {
			t.Run(fmt.Sprint(name, level), func(t *testing.T) {
				var b bytes.Buffer
				for _, part := range [][]byte{want[:len(want)/3], want[len(want)/3:]} {
					z, err := gzip.NewWriterLevel(&b, level)
					if err != nil {
						t.Fatal(err)
					}
					z.Name, z.Comment, z.Extra = "a name", "a comment", make([]byte, 300)
					if _, err := z.Write(part); err != nil {
						t.Fatal(err)
					}
					if err := z.Close(); err != nil {
						t.Fatal(err)
					}
				}
				for _, src := range []io.Reader{
					bytes.NewReader(b.Bytes()), iotest.HalfReader(bytes.NewReader(b.Bytes())),
					&smallReader{bytes.NewReader(b.Bytes()), 1},
					iotest.DataErrReader(bytes.NewReader(b.Bytes())),
				} {
					z, err := NewReader(src)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(z)
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%d bytes, want %d, %v", len(got), len(want), err)
					}
				}
			})
		}
	}
}

// smallReader returns 1, 2, 3… 99 bytes, so that the input runs dry at every
// point of a block.
type smallReader struct {
	r io.Reader
	n int
}

func (s *smallReader) Read(p []byte) (int, error) {
	s.n = s.n%99 + 1
	return s.r.Read(p[:min(len(p), s.n)])
}

// TestDamage flips bits and cuts: what stdlib refuses is refused, and what it
// reads is read the same.
func TestDamage(t *testing.T) {
	rnd := rand.New(rand.NewSource(2))
	for name, content := range samples(t) {
		content = content[:min(len(content), 20<<10)]
		var b bytes.Buffer
		z, _ := flate.NewWriter(&b, 6)
		_, _ = z.Write(content)
		_ = z.Close()
		for range 300 {
			damaged := bytes.Clone(b.Bytes())
			for range 1 + rnd.Intn(3) {
				// The headers of blocks are what is most worth damaging.
				at := min(rnd.Intn(len(damaged)), rnd.Intn(len(damaged)), rnd.Intn(len(damaged)))
				damaged[at] ^= 1 << rnd.Intn(8)
			}
			if rnd.Intn(4) == 0 {
				damaged = damaged[:rnd.Intn(len(damaged))]
			}
			t.Run(name, func(t *testing.T) { compare(t, damaged) })
		}
	}
}

// compare decodes b with compress/flate and here.
func compare(t *testing.T, b []byte) {
	t.Helper()
	const most = 16 << 20 // a bomb shows nothing more
	want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b)), most+1))
	if len(want) > most {
		return
	}
	got, err := inflate(bytes.NewReader(b))
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("error %v, compress/flate has %v", err, wantErr)
	}
	// What comes before an error is right, too, but for the last turn.
	n := min(len(got), len(want))
	if !bytes.Equal(got[:n], want[:n]) || len(got)+3 < len(want) || err == nil && len(got) != len(want) {
		t.Fatalf("%d bytes, compress/flate has %d, or others", len(got), len(want))
	}
	piecewise, perr := inflate(iotest.OneByteReader(bytes.NewReader(b)))
	if (perr == nil) != (err == nil) || err == nil && !bytes.Equal(piecewise, got) {
		t.Fatalf("byte by byte %d bytes, %v; at once %d bytes, %v", len(piecewise), perr, len(got), err)
	}
}

func TestGzipErrors(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte("hello, hello, hello"))
	_ = z.Close()
	good := b.Bytes()
	change := func(at int) []byte {
		c := bytes.Clone(good)
		c[(at+len(c))%len(c)] ^= 1
		return c
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"no gzip", []byte("hello, hello, hello"), ErrHeader},
		{"cut in the header", good[:5], io.ErrUnexpectedEOF},
		{"cut in the data", good[:len(good)-12], io.ErrUnexpectedEOF},
		{"cut in the trailer", good[:len(good)-1], io.ErrUnexpectedEOF},
		{"checksum", change(-8), ErrChecksum},
		{"size", change(-4), ErrChecksum},
		{"trailing data", append(bytes.Clone(good), "trailing data"...), ErrHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(tt.in))
			if err == nil {
				_, err = io.ReadAll(r)
			}
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func FuzzInflate(f *testing.F) {
	for _, content := range samples(f) {
		for _, level := range []int{0, 1, 6, 9, flate.HuffmanOnly} {
			var b bytes.Buffer
			z, _ := flate.NewWriter(&b, level)
			_, _ = z.Write(content[:min(len(content), 3000)])
			_ = z.Close()
			f.Add(b.Bytes())
		}
	}
	f.Fuzz(compare)
}

// FuzzRoundTrip compresses what it gets, so that everything behind the headers
// is reached.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello, hello"), uint8(6), uint16(3))
	f.Fuzz(func(t *testing.T, content []byte, level uint8, times uint16) {
		content = bytes.Repeat(content, 1+int(times)%512)
		if len(content) > 1<<20 {
			return
		}
		var b bytes.Buffer
		z, _ := flate.NewWriter(&b, int(level%10))
		_, _ = z.Write(content)
		_ = z.Close()
		got, err := inflate(&b)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(content), err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	name := os.Getenv("ATOMIC_GZIP")
	if name == "" {
		b.Skip("ATOMIC_GZIP names no file")
	}
	file, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		z, err := NewReader(bytes.NewReader(file))
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, z)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
	}
}
