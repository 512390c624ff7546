// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"fmt"

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
	if !m.Enabled() {
		return nil
	}
	start, err := l.statement(m, d)
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
func (l Launcher) statement(m *tpm.Measurer, d *deployment) (tpm.Start, error) {
	a := &d.rec.Atomic
	values, err := tpm.ValuesDigest(d.rec.Values)
	if err != nil {
		return tpm.Start{}, err
	}
	units, err := unitFiles(l.Host, a.Start.Unit)
	if err != nil {
		return tpm.Start{}, err
	}
	self, err := m.Executable()
	if err != nil {
		return tpm.Start{}, err
	}
	start := tpm.Start{
		Name: d.name,
		Image: tpm.StartImage{
			Ref: d.rec.Image, Manifest: a.ManifestDigest, Index: a.IndexDigest, Config: a.ConfigDigest,
		},
		Rootfs: tpm.StartRootfs{Type: a.Rootfs.Type, Verity: a.Rootfs.Image, Enforced: a.Rootfs.Enforced, Verify: a.Rootfs.Verify},
		Signature: tpm.StartSignature{
			Verdict: a.Signature.Verdict, Keys: a.Signature.Keys,
			Exception: a.Signature.Exception, Policy: a.Signature.PolicySHA256,
		},
		Config: a.ConfigSHA256,
		Unit:   units,
		Values: values,
		Agent:  tpm.StartAgent{Version: version.Version, SHA256: self},
	}
	if rt := a.Start.Runtime; rt != nil {
		sum, err := hashFile(l.Host.Path(rt.Path))
		if err != nil {
			return tpm.Start{}, fmt.Errorf("read runtime: %w", err)
		}
		start.Runtime = &tpm.StartFile{Path: rt.Path, SHA256: sum}
	}
	return start, nil
}
