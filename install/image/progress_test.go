// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/image"
)

// events are those of an image with one blob to fetch and one that is present.
func events() []types.ProgressProperties {
	a := types.BlobInfo{Digest: digest.FromString("a"), Size: 3 << 20}
	b := types.BlobInfo{Digest: digest.FromString("b"), Size: 100}
	return []types.ProgressProperties{
		{Event: types.ProgressEventNewArtifact, Artifact: a},
		{Event: types.ProgressEventRead, Artifact: a, Offset: 1 << 20, OffsetUpdate: 1 << 20},
		{Event: types.ProgressEventSkipped, Artifact: b},
		{Event: types.ProgressEventRead, Artifact: a, Offset: 3 << 20, OffsetUpdate: 2 << 20},
		{Event: types.ProgressEventDone, Artifact: a, Offset: 3 << 20},
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	p := image.Lines(&out)
	for _, ev := range events() {
		p.Event(ev)
	}
	p.Close()
	const want = "Fetching ca978112ca1b (3.0 MiB)\nPresent 3e23e8160039\nFetched ca978112ca1b\n"
	if out.String() != want {
		t.Errorf("got\n%s, want\n%s", out.String(), want)
	}
}
