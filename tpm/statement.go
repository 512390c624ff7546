// SPDX-License-Identifier: Apache-2.0

package tpm

import "github.com/atomic-agent/atomic/tpm/statement"

// Start is what one start is.
type Start = statement.Start

// The parts of a Start.
type (
	StartImage     = statement.Image
	StartRootfs    = statement.Rootfs
	StartSignature = statement.Signature
	StartFile      = statement.File
	StartAgent     = statement.Agent
)
