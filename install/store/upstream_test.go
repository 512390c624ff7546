// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/install/store/dump"
	"github.com/atomic-agent/atomic/install/store/erofs"
	"github.com/atomic-agent/atomic/install/store/storetest"
)

// TestUpstreamReads lets upstream's composefs-info look at a store: it must
// find every object of an image, and describe it so that the same image can be
// made of the description.
func TestUpstreamReads(t *testing.T) {
	info := strings.Fields(os.Getenv("ATOMIC_MKCOMPOSEFS"))
	if len(info) == 0 {
		t.Skip("no composefs-info: set ATOMIC_MKCOMPOSEFS to what test/oracle/mkcomposefs.sh prints")
	}
	info[len(info)-1] = strings.TrimSuffix(info[len(info)-1], "mkcomposefs") + "composefs-info"
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), info[0], append(info[1:len(info):len(info)], args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("composefs-info %q: %v: %s", args, err, stderr.Bytes())
		}
		return out
	}
	s := storetest.Open(t, filepath.Join(t.TempDir(), "store"))
	if err := install(storetest.Begin(t, s), "a", 0, 0, 20); err != nil {
		t.Fatal(err)
	}
	refs, err := s.Refs()
	if err != nil || len(refs) != 1 {
		t.Fatalf("%+v, %v", refs, err)
	}
	image := filepath.Join(s.Dir(), "images", refs[0].Image)
	objects := filepath.Join(s.Dir(), "objects")
	if out := run("missing-objects", "--basedir="+objects, image); len(out) != 0 {
		t.Errorf("objects are missing:\n%s", out)
	}
	if n := bytes.Count(run("objects", image), []byte("\n")); n != 20 {
		t.Errorf("%d objects, want 20", n)
	}
	if got := strings.TrimSpace(string(run("measure-file", image))); got != refs[0].Image {
		t.Errorf("the image measures %s, its name is %s", got, refs[0].Image)
	}
	tr, err := dump.Read(bytes.NewReader(run("dump", image)))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := erofs.Write(&got, tr, erofs.Version); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("upstream's description makes another image")
	}
}
