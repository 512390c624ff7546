// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"os"

	"github.com/atomic-agent/atomic/tpm/eventlog"
)

// firmwareExplains reports whether value is what the boot loader measured,
// according to the log that the kernel kept of it.
func (m *Measurer) firmwareExplains(pcr int, value eventlog.Register) bool {
	if m.cfg.FirmwareLog == "" {
		return false
	}
	data, err := os.ReadFile(m.cfg.FirmwareLog)
	if err != nil {
		return false
	}
	firmware, err := eventlog.ReplayFirmware(data, pcr, value.Banks())
	return err == nil && firmware.Equal(value)
}
