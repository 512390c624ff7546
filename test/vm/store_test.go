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
	storeDir  = "/var/lib/containers/atomic/.store-" // and the policy
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
		return 6
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("ATOMIC_VM_CUTS: %v", err)
	}
	return n
}

// TestStorePowerCuts cuts the power while images are committed, removed and
// collected, at moments left to chance. Whatever a transaction has reported must
// hold afterwards, and whatever is there must be whole. Without fs-verity there
// is less that syncs by the way, so both ways are tried in turn.
func TestStorePowerCuts(t *testing.T) {
	cuts := powerCuts(t)
	v := boot(t, Options{Initrd: true, Layers: []string{storetoolLayer(t)}})
	random := rand.New(rand.NewPCG(v.Seed(), 1))
	stores := []*churned{{policy: "require"}, {policy: "off"}}
	for i := range cuts {
		s := stores[i%len(stores)]
		s.say(churnUntilCut(t, v, s.policy, random))
		if err := v.Start(t.Context()); err != nil {
			t.Fatalf("after power cut %d: %v", i, err)
		}
		if s.check(t, v); t.Failed() {
			t.Fatalf("after power cut %d, policy %s", i, s.policy)
		}
	}
	for _, s := range stores {
		t.Logf("policy %s: generations %v", s.policy, slices.Sorted(maps.Keys(s.promised)))
	}
}

// churned is a store and what it has promised.
type churned struct {
	policy   string
	promised map[int]string // generation to image
	removed  map[int]bool
}

// say takes note of what the storetool said.
func (s *churned) say(lines []string) {
	if s.promised == nil {
		s.promised, s.removed = map[int]string{}, map[int]bool{}
	}
	for _, line := range lines {
		var gen int
		var image string
		if n, _ := fmt.Sscanf(line, "committed %d %s", &gen, &image); n == 2 {
			s.promised[gen] = image
		} else if n, _ := fmt.Sscanf(line, "removing %d", &gen); n == 1 {
			delete(s.promised, gen) // it may be there or not
		} else if n, _ := fmt.Sscanf(line, "removed %d", &gen); n == 1 {
			s.removed[gen] = true
		}
	}
}

// check compares the promises with what is there.
func (s *churned) check(t *testing.T, v *VM) {
	t.Helper()
	sh(t, v, "modprobe loop") // nothing in this boot would make /dev/loop-control
	res, err := v.Run(t.Context(), storetool, "check", s.policy, storeDir+s.policy, storeMnt)
	if err != nil {
		t.Error(err)
	}
	sound := map[int]string{}
	for line := range strings.Lines(res.Stdout) {
		var gen int
		var image string
		if n, _ := fmt.Sscanf(line, "sound %d %s", &gen, &image); n == 2 {
			sound[gen] = image
		}
	}
	for gen, image := range s.promised {
		if sound[gen] != image {
			t.Errorf("generation %d is %q, was committed as %q", gen, sound[gen], image)
		}
	}
	for gen := range s.removed {
		if sound[gen] != "" {
			t.Errorf("generation %d is back, it was removed", gen)
		}
	}
	maps.Copy(s.promised, sound) // a commit that was cut off may have made it
}

// churnUntilCut runs the storetool, kills the machine some lines later and
// returns what the storetool has said until then.
func churnUntilCut(t *testing.T, v *VM, policy string, random *rand.Rand) []string {
	t.Helper()
	r, w := io.Pipe()
	ended := make(chan string, 1)
	seed := fmt.Sprint(random.Uint64())
	go func() {
		var stderr strings.Builder
		_, err := v.Exec(t.Context(), bed.Command{
			Args:   []string{storetool, "churn", policy, storeDir + policy, seed},
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
