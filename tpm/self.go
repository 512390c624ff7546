// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/tpm/statement"
)

// Executable returns the SHA-256 in hex of the running program.
//
// Hashing it takes longer than all the rest of a measurement. So the result is
// kept beside the log, until the next boot, for as long as the kernel says that
// the file is the same and was not changed; nothing but a changed clock can
// set a file's ctime, and a program that runs cannot be written to.
func (m *Measurer) Executable() (string, error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("hash launcher: %w", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", fmt.Errorf("hash launcher: %w", err)
	}
	cache := filepath.Join(filepath.Dir(m.cfg.LogPath), "executables",
		fmt.Sprintf("%x-%d-%d-%d.%09d", st.Dev, st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec))
	if known, err := os.ReadFile(cache); err == nil && len(known) == 2*sha256.Size {
		return string(known), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash launcher: %w", err)
	}
	digest := hex.EncodeToString(h.Sum(nil))
	// A cache that cannot be written costs time, nothing else.
	if os.MkdirAll(filepath.Dir(cache), 0o700) == nil {
		_ = writeDurably(cache, []byte(digest))
	}
	return digest, nil
}

// ValuesDigest returns the SHA-256 in hex of the values' canonical JSON.
func ValuesDigest(values map[string]string) (string, error) {
	if values == nil {
		values = map[string]string{}
	}
	canonical, err := statement.Canonical(values)
	if err != nil {
		return "", fmt.Errorf("encode values: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}
