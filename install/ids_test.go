// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/paths"
)

func TestTakenIDs(t *testing.T) {
	a := &Agent{host: paths.Host{Root: t.TempDir()}}
	for file, content := range map[string]string{
		"/etc/passwd":                     "root:x:0:0::/root:/bin/sh\nbroken\nfar:x:600000:1::/:/bin/sh\n",
		"/etc/subuid":                     "user:1000000:65536\nuser:x:1\n",
		"/etc/subgid":                     "user:2000000:131072",
		"/run/systemd/nspawn-uid/1048576": "",
	} {
		path := a.host.Path(file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := a.takenIDs("web")
	if err != nil {
		t.Fatal(err)
	}
	var got []record.IDs
	for _, u := range taken {
		got = append(got, u.ids)
	}
	want := []record.IDs{{First: 0, Count: 1}, {First: 600000, Count: 1}, {First: 1000000, Count: 65536}, {First: 2000000, Count: 131072}, {First: 1048576, Count: 65536}}
	sorted := cmpopts.SortSlices(func(a, b record.IDs) bool { return a.First < b.First })
	if d := cmp.Diff(want, got, sorted); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}

	// What is run once has IDs as well.
	rec, err := record.ReadFile("record/testdata/info.json")
	if err != nil {
		t.Fatal(err)
	}
	rec.Atomic.Name, rec.Atomic.Start.Unit, rec.Atomic.IDs = "once", "once.service", &record.IDs{First: 3 << 20, Count: idsCount}
	info, err := rec.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(a.host.Once("once"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.host.Once("once"), "info"), info, 0o600); err != nil {
		t.Fatal(err)
	}
	for except, want := range map[string]int{"web": len(taken) + 1, "once": len(taken)} {
		if now, err := a.takenIDs(except); err != nil || len(now) != want {
			t.Errorf("taken beside %s: %v, %v", except, now, err)
		}
	}

	// The range that follows from the name, and the next one if it is taken.
	first, err := a.chooseIDs("web")
	if err != nil || first.First%idsCount != 0 || first.First < idsFirst || first.First+idsCount > idsEnd {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := a.chooseIDs("web"); err != nil || *again != *first {
		t.Errorf("%+v, %v, want %+v", again, err, first)
	}
	if err := os.WriteFile(a.host.Path("/run/systemd/nspawn-uid/1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	name := a.host.Path("/etc/group")
	if err := os.WriteFile(name, []byte("somebody:x:"+strconv.Itoa(int(first.First)+1000)+":\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := a.chooseIDs("web")
	if err != nil || next.First == first.First {
		t.Errorf("%+v, %v, want another than %+v", next, err, first)
	}
}
