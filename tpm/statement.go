// SPDX-License-Identifier: Apache-2.0

package tpm

import "github.com/atomic-agent/atomic/tpm/statement"

// What a start is, is defined by package statement.
type (
	Start          = statement.Start
	StartImage     = statement.Image
	StartRootfs    = statement.Rootfs
	StartSignature = statement.Signature
	StartFile      = statement.File
	StartAgent     = statement.Agent
)
