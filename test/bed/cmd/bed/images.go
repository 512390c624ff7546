// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/atomic-agent/atomic/test/images"
)

// testImages returns a registry's storage directory with the test images,
// building those that the cache does not have.
func testImages(ctx context.Context, log io.Writer) (string, error) {
	b, err := images.NewBuilder(log)
	if err != nil {
		return "", err
	}
	dir, err := b.Storage(ctx, images.Default())
	if err != nil {
		return "", fmt.Errorf("build test images: %w", err)
	}
	return dir, nil
}
