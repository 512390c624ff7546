// SPDX-License-Identifier: Apache-2.0

package tpm

import "github.com/atomic-agent/atomic/tpm/statement"

// Start is what one start is.
type Start = statement.Start

// StartImage is a start's image.
type StartImage = statement.Image

// StartRootfs is a start's root file system.
type StartRootfs = statement.Rootfs

// StartSignature is what a start's image was accepted by.
type StartSignature = statement.Signature

// StartFile is a unit file of a start.
type StartFile = statement.File

// StartAgent is the launcher of a start.
type StartAgent = statement.Agent
