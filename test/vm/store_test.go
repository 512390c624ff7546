// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atomic-agent/atomic/test/bed"
)

const (
	storeDir  = "/var/lib/containers/atomic/.store"
	storetool = "/usr/lib/atomic-test/storetool"
	storeMnt  = "/run/store"
)

// storetoolLayer builds the storetool into a layer.
func storetoolLayer(t *testing.T) string {
	t.Helper()
	layer := t.TempDir()
	if err := os.Chmod(layer, 0o755); err != nil { // it becomes the machine's root directory
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
		"-o", filepath.Join(layer, storetool), "./storetool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build storetool: %v\n%s", err, out)
	}
	return layer
}

// powerCuts is how often TestStorePowerCuts takes the power away.
func powerCuts(t *testing.T) int {
	text := os.Getenv("ATOMIC_VM_CUTS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("ATOMIC_VM_CUTS: %v", err)
	}
	return n
}

// TestStorePowerCuts cuts the power while images are committed and removed, at
// moments left to chance. Whatever a transaction has reported must hold
// afterwards, and whatever is there must be whole.
func TestStorePowerCuts(t *testing.T) {
	cuts := powerCuts(t)
	v := boot(t, Options{Initrd: true, Layers: []string{storetoolLayer(t)}})
	random := rand.New(rand.NewPCG(v.Seed(), 1))
	promised := map[int]string{} // generation to image
	for i := range cuts {
		lines := churnUntilCut(t, v, random)
		gone := map[int]bool{} // removed, or perhaps
		for _, line := range lines {
			var gen int
			var image string
			if n, _ := fmt.Sscanf(line, "committed %d %s", &gen, &image); n == 2 {
				promised[gen] = image
			} else if n, _ := fmt.Sscanf(line, "removing %d", &gen); n == 1 {
				delete(promised, gen)
			} else if n, _ := fmt.Sscanf(line, "removed %d", &gen); n == 1 {
				gone[gen] = true
			}
		}
		if err := v.Start(t.Context()); err != nil {
			t.Fatalf("after power cut %d: %v", i, err)
		}
		res, err := v.Run(t.Context(), storetool, "check", storeDir, storeMnt)
		if err != nil {
			t.Fatalf("after power cut %d: %v", i, err)
		}
		sound := map[int]string{}
		for line := range strings.Lines(res.Stdout) {
			var gen int
			var image string
			if n, _ := fmt.Sscanf(line, "sound %d %s", &gen, &image); n == 2 {
				sound[gen] = image
			}
		}
		for gen, image := range promised {
			if sound[gen] != image {
				t.Errorf("after power cut %d: generation %d is %q, was committed as %q", i, gen, sound[gen], image)
			}
		}
		for gen := range gone {
			if sound[gen] != "" {
				t.Errorf("after power cut %d: generation %d is back, it was removed", i, gen)
			}
		}
		maps.Copy(promised, sound) // a commit that was cut off may have made it
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d power cuts, the last generations %v", cuts, slices.Sorted(maps.Keys(promised)))
}

// churnUntilCut runs the storetool, kills the machine some lines later and
// returns what the storetool has said until then.
func churnUntilCut(t *testing.T, v *VM, random *rand.Rand) []string {
	t.Helper()
	r, w := io.Pipe()
	ended := make(chan string, 1)
	go func() {
		var stderr strings.Builder
		_, err := v.Exec(t.Context(), bed.Command{
			Args:   []string{storetool, "churn", storeDir, fmt.Sprint(random.Uint64())},
			Stdout: w, Stderr: &stderr,
		})
		w.Close() //nolint:errcheck // a pipe's Close never fails
		ended <- fmt.Sprint(err, " ", stderr.String())
	}()
	var lines []string
	sc := bufio.NewScanner(r)
	for range random.IntN(12) {
		if !sc.Scan() {
			t.Fatalf("storetool has ended: %s", <-ended)
		}
		lines = append(lines, sc.Text())
	}
	// Not a wait for anything: the moment of the cut is left to chance.
	cut := make(chan error, 1)
	time.AfterFunc(time.Duration(random.IntN(400))*time.Millisecond, func() { cut <- v.Kill() })
	for sc.Scan() {
		lines = append(lines, sc.Text())
	}
	if err := <-cut; err != nil {
		t.Fatal(err)
	}
	<-ended
	return lines
}
