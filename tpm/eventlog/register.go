// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // the SHA-1 bank of old TPMs
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"slices"
)

// Digest is a digest and its algorithm.
type Digest struct {
	HashAlg string `json:"hashAlg"`
	Digest  Hex    `json:"digest"`
}

func (d Digest) check() error {
	h, ok := Hash(d.HashAlg)
	if !ok {
		return fmt.Errorf("unknown hash algorithm %q", d.HashAlg)
	}
	if len(d.Digest) != h.Size() {
		return fmt.Errorf("%s digest of %d bytes", d.HashAlg, len(d.Digest))
	}
	return nil
}

// algorithms are the banks that atomic can compute, in the TPM's order.
var algorithms = []struct {
	name string
	hash crypto.Hash
}{
	{"sha1", crypto.SHA1},
	{"sha256", crypto.SHA256},
	{"sha384", crypto.SHA384},
	{"sha512", crypto.SHA512},
}

// Hash returns the hash function of a bank's name, for example "sha256".
func Hash(name string) (crypto.Hash, bool) {
	for _, a := range algorithms {
		if a.name == name {
			return a.hash, true
		}
	}
	return 0, false
}

// Register is the value of a register, or what it is extended with: one digest
// for each active bank, in the TPM's order of algorithms.
type Register []Digest

// Zero returns the value of a register that was never extended.
func Zero(banks []string) Register {
	r := make(Register, 0, len(banks))
	for _, b := range banks {
		h, _ := Hash(b)
		r = append(r, Digest{b, make(Hex, h.Size())})
	}
	return r
}

// Measure returns what each of r's banks is extended with for a text.
func (r Register) Measure(text string) Register {
	out := make(Register, 0, len(r))
	for _, d := range r {
		h, _ := Hash(d.HashAlg)
		out = append(out, Digest{d.HashAlg, sum(h, []byte(text))})
	}
	return out
}

// Extend returns the value after extending r with digests of the same banks.
func (r Register) Extend(digests Register) Register {
	out := make(Register, 0, len(r))
	for i, d := range r {
		h, _ := Hash(d.HashAlg)
		out = append(out, Digest{d.HashAlg, sum(h, d.Digest, digests[i].Digest)})
	}
	return out
}

func sum(h crypto.Hash, parts ...[]byte) Hex {
	w := h.New()
	for _, p := range parts {
		w.Write(p)
	}
	return w.Sum(nil)
}

// Equal reports whether both are the same banks with the same digests.
func (r Register) Equal(o Register) bool {
	return slices.EqualFunc(r, o, func(a, b Digest) bool {
		return a.HashAlg == b.HashAlg && bytes.Equal(a.Digest, b.Digest)
	})
}

// IsZero reports whether no bank was ever extended.
func (r Register) IsZero() bool { return r.Equal(Zero(r.Banks())) }

// Banks returns the names of r's banks.
func (r Register) Banks() []string {
	names := make([]string, 0, len(r))
	for _, d := range r {
		names = append(names, d.HashAlg)
	}
	return names
}

// Get returns the digest of a bank.
func (r Register) Get(bank string) (Hex, bool) {
	for _, d := range r {
		if d.HashAlg == bank {
			return d.Digest, true
		}
	}
	return nil, false
}

// Best returns the SHA-256 bank, or the strongest one if there is none.
func (r Register) Best() Digest {
	if d, ok := r.Get("sha256"); ok {
		return Digest{"sha256", d}
	}
	if len(r) == 0 {
		return Digest{}
	}
	return r[len(r)-1]
}

// check says whether r has at least one bank, each known, of the right size,
// once, and in order.
func (r Register) check() error {
	if len(r) == 0 {
		return fmt.Errorf("no digests")
	}
	last := -1
	for _, d := range r {
		if err := d.check(); err != nil {
			return err
		}
		i := slices.IndexFunc(algorithms, func(a struct {
			name string
			hash crypto.Hash
		},
		) bool {
			return a.name == d.HashAlg
		})
		if i <= last {
			return fmt.Errorf("%s digest is out of order", d.HashAlg)
		}
		last = i
	}
	return nil
}
