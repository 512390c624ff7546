// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"errors"
)

// RegistryHost is the registry's name and port in the bed.
const RegistryHost = "registry.test:5000"

func (b *Bed) prepareRegistry(context.Context) error {
	return errors.New("registry: not implemented")
}
