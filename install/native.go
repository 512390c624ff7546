// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
)

// nativeSystemd is the first systemd that can isolate a container by itself and
// stop it in order: 257 has the settings, but loses sight of the first process
// of a PID namespace (docs/decisions/isolation.md).
const nativeSystemd = 258

// checkNative refuses a container without the launcher where that cannot be,
// or must not be because its starts would not be measured.
func (a *Agent) checkNative(ctx context.Context) error {
	if a.conf.TPM.Measure == conf.Require {
		return hint.New(errors.New("--isolation=native: its starts cannot be measured, and Measure=require in atomic.conf wants that"), "leave --isolation out")
	}
	version, err := a.sd.Version(ctx)
	if err != nil {
		return err
	}
	if version > 0 && version < nativeSystemd {
		return hint.New(fmt.Errorf("--isolation=native needs systemd %d, and this is %d", nativeSystemd, version), "leave --isolation out")
	}
	return nil
}
