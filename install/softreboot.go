// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"

	"github.com/atomic-agent/atomic/internal/hint"
)

// softRebootSystemd is the first systemd that lets services live through a soft
// reboot.
const softRebootSystemd = 255

func (a *Agent) checkSoftReboot(ctx context.Context) error {
	version, err := a.sd.Version(ctx)
	if err != nil {
		return err
	}
	if version > 0 && version < softRebootSystemd {
		return hint.New(fmt.Errorf("--survive-soft-reboot needs systemd %d, and this is %d", softRebootSystemd, version),
			"leave it out, or say --survive-soft-reboot=no if an earlier command asked for it")
	}
	return nil
}
