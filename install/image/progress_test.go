// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"

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

// TestBars shows bars on a real terminal. One blob is of unknown size and never
// completes: the display ends all the same.
func TestBars(t *testing.T) {
	master, slave := terminal(t)
	shown := make(chan string)
	go func() {
		data, _ := bufio.NewReader(master).ReadString('\x00')
		shown <- data
	}()
	p := image.Bars(slave)
	for _, ev := range events() {
		p.Event(ev)
	}
	p.Event(types.ProgressProperties{Event: types.ProgressEventNewArtifact, Artifact: types.BlobInfo{Digest: digest.FromString("c"), Size: -1}})
	p.Close()
	if _, err := slave.WriteString("\x00"); err != nil {
		t.Fatal(err)
	}
	out := <-shown
	for _, want := range []string{"ca978112ca1b", "3.0 MiB / 3.0 MiB", "done", "3e23e8160039", "present"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
}

func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close(); master.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}
