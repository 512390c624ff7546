// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"go.podman.io/image/v5/types"
)

// Progress shows how far the blobs of an image are. Event is called from one
// goroutine; Close ends the display, complete or not.
type Progress interface {
	Event(types.ProgressProperties)
	Close()
}

// Lines shows progress as plain lines, one when a blob starts and one when it
// is complete.
func Lines(w io.Writer) Progress { return lines{w} }

type lines struct{ w io.Writer }

func (l lines) Event(ev types.ProgressProperties) {
	switch ev.Event {
	case types.ProgressEventNewArtifact:
		fmt.Fprintf(l.w, "Fetching %s%s\n", short(ev.Artifact.Digest), size(ev.Artifact.Size))
	case types.ProgressEventDone:
		fmt.Fprintf(l.w, "Fetched %s\n", short(ev.Artifact.Digest))
	case types.ProgressEventSkipped:
		fmt.Fprintf(l.w, "Present %s\n", short(ev.Artifact.Digest))
	case types.ProgressEventRead:
	}
}

func (lines) Close() {}

// Bars shows one progress bar for each blob on a terminal.
func Bars(w io.Writer) Progress {
	return &bars{p: mpb.New(mpb.WithOutput(w), mpb.WithWidth(60)), bar: map[digest.Digest]*mpb.Bar{}}
}

type bars struct {
	p   *mpb.Progress
	bar map[digest.Digest]*mpb.Bar
}

func (b *bars) Event(ev types.ProgressProperties) {
	d := ev.Artifact.Digest
	switch ev.Event {
	case types.ProgressEventNewArtifact:
		if again := b.bar[d]; again != nil {
			again.Abort(true)
		}
		b.bar[d] = b.p.AddBar(max(ev.Artifact.Size, 0),
			mpb.PrependDecorators(decor.Name(short(d), decor.WCSyncSpaceR), decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)),
			mpb.AppendDecorators(decor.OnComplete(decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), "done")))
	case types.ProgressEventRead:
		if bar := b.bar[d]; bar != nil {
			bar.SetCurrent(int64(ev.Offset)) //nolint:gosec // a blob is smaller than 8 EiB
		}
	case types.ProgressEventDone:
		if bar := b.bar[d]; bar != nil && ev.Artifact.Size > 0 {
			bar.SetCurrent(ev.Artifact.Size) // completes a bar that has a total
		} else if bar != nil {
			bar.SetTotal(-1, true)
		}
	case types.ProgressEventSkipped:
		bar := b.p.AddBar(1, mpb.PrependDecorators(decor.Name(short(d), decor.WCSyncSpaceR), decor.Name("present", decor.WCSyncSpace)))
		bar.SetCurrent(1)
	}
}

func (b *bars) Close() {
	for _, bar := range b.bar {
		bar.Abort(false) // those that are complete stay complete
	}
	b.p.Wait()
}

func short(d digest.Digest) string {
	if h := d.Encoded(); len(h) > 12 {
		return h[:12]
	}
	return d.String()
}

func size(n int64) string {
	if n < 0 {
		return ""
	}
	return fmt.Sprintf(" (% .1f)", decor.SizeB1024(n))
}
