// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/atomic-agent/atomic/internal/version"
	"github.com/atomic-agent/atomic/tpm"
)

// measure records the start in the TPM, as far as host and deployment want
// that.
func (l Launcher) measure(ctx context.Context, d *deployment) error {
	m, err := tpm.Open(tpm.FromHost(l.Host, l.TPM, d.rec.Atomic.Start.Measure))
	if err != nil {
		return fmt.Errorf("open measurement: %w", err)
	}
	start, err := l.statement(d)
	if err != nil {
		return fmt.Errorf("describe the start of %q: %w", d.name, err)
	}
	rec, err := m.Start(ctx, start)
	if err == nil && rec.Warning != nil {
		l.Log.Warn("this start was not measured, ignoring", "error", rec.Warning)
	}
	return err
}

// statement says what this start is. It depends on nothing that varies from
// start to start.
func (l Launcher) statement(d *deployment) (tpm.Start, error) {
	a := &d.rec.Atomic
	values, err := json.Marshal(d.rec.Values) // keys sorted
	if err != nil {
		return tpm.Start{}, err
	}
	sum := sha256.Sum256(values)
	units, err := unitFiles(l.Host, a.Start.Unit)
	if err != nil {
		return tpm.Start{}, err
	}
	self, err := hashFile("/proc/self/exe")
	if err != nil {
		return tpm.Start{}, err
	}
	return tpm.Start{
		Name: d.name,
		Image: tpm.StartImage{
			Ref: d.rec.Image, Manifest: a.ManifestDigest, Index: a.IndexDigest, Config: a.ConfigDigest,
		},
		Rootfs: tpm.StartRootfs{Type: a.Rootfs.Type, Verity: a.Rootfs.Image, Enforced: a.Rootfs.Enforced},
		Signature: tpm.StartSignature{
			Verdict: a.Signature.Verdict, Keys: a.Signature.Keys,
			Exception: a.Signature.Exception, Policy: a.Signature.PolicySHA256,
		},
		Config: a.ConfigSHA256,
		Unit:   units,
		Values: hex.EncodeToString(sum[:]),
		Agent:  tpm.StartAgent{Version: version.Version, SHA256: self},
	}, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %q: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
