// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen"
)

// scene is a host with deployments that were not fetched from anywhere.
type scene struct {
	*testing.T
	a    *Agent
	host paths.Host
	said []string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	t.Setenv("PATH", "") // neither systemctl nor systemd-tmpfiles
	s := &scene{T: t, host: paths.Host{Root: t.TempDir()}}
	a, err := New(s.host, slog.New(slog.NewTextHandler(io.Discard, nil)), func(format string, args ...any) {
		s.said = append(s.said, fmt.Sprintf(format, args...))
	})
	s.check(err)
	s.a = a
	s.check(os.MkdirAll(s.host.Path("/etc/systemd/system"), 0o755))
	s.check(os.MkdirAll(s.host.Containers(), 0o755))
	return s
}

func (s *scene) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// prepared makes a deployment with a service and host files, prepared for place.
func (s *scene) prepared(gen int, files map[string]string) *prepared {
	s.Helper()
	digest := "sha256:" + strings.Repeat("a", 64)
	p := &prepared{d: &deployment{host: s.host, name: "etcd", gen: gen}, unit: fmt.Sprintf("etcd-%d.mount", gen)}
	p.out = &unitgen.Output{
		Config: []byte("{}"), Unit: fmt.Appendf(nil, "[Service]\nExecStart=/bin/%d\n", gen), DropIn: []byte("[Service]\n"),
		Tmpfiles: fmt.Appendf(nil, "d /run/etcd 0755\n# %d\n", gen),
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		content := files[path]
		f := unitgen.HostFile{Path: path, Mode: 0o644, Content: []byte(content)}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			f.Mode, f.Target = fs.ModeSymlink|0o777, target
		}
		p.out.HostFiles = append(p.out.HostFiles, f)
	}
	p.d.rec = &record.Record{HasContainerService: true, InstalledFiles: []string{}, InstalledFilesChecksum: map[string]string{}}
	p.d.rec.Atomic = record.Deployment{
		Version: record.Version, Name: "etcd", Generation: gen, ManifestDigest: digest, ConfigDigest: digest,
		Rootfs: record.Rootfs{Type: "composefs", Image: strings.Repeat("b", 64)}, ConfigSHA256: fileSum(p.out.Config),
		Start: record.Start{Unit: "etcd.service", MountUnit: p.unit, Notify: "launcher", Engine: "oci"},
	}
	s.a.collect(p, []byte("[Mount]\n"))
	return p
}

// placed brings a prepared deployment to the point where its steps are known
// and its directory is complete.
func (s *scene) placed(p *prepared, in *intent.Intent, from *deployment) {
	s.Helper()
	var err error
	in.Steps, err = s.a.place(p, from)
	s.check(err)
	s.check(intent.Write(s.host.Intents(), in))
	s.check(s.a.finish(p))
}

// tree describes the host but for atomic's own directory, and which deployment
// is current.
func (s *scene) tree() map[string]string {
	s.Helper()
	m := map[string]string{}
	s.check(filepath.WalkDir(s.host.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == s.host.Path("/var") {
			return fs.SkipDir
		}
		kind, sum, err := probe(path)
		m[strings.TrimPrefix(path, s.host.Root)] = kind + " " + sum
		return err
	}))
	gen, err := s.a.currentGeneration("etcd")
	s.check(err)
	m["current"] = fmt.Sprint(gen)
	return m
}

var (
	one = map[string]string{"/usr/local/bin/ctl": "one", "/etc/etcd/conf": "one", "/etc/etcd/gone": "one", "/etc/etcd/link": "->conf"}
	two = map[string]string{"/usr/local/bin/ctl": "two", "/etc/etcd/conf": "one", "/etc/new/file": "two", "/etc/etcd/link": "->gone"}
)

// crashes calls try with every moment at which a change can be interrupted:
// after each number of steps, and after the rename that decides.
func crashes(t *testing.T, steps int, try func(t *testing.T, done int, decided bool)) {
	t.Helper()
	for done := 0; done <= steps; done++ {
		t.Run(fmt.Sprintf("after %d steps", done), func(t *testing.T) { try(t, done, false) })
	}
	t.Run("after the rename", func(t *testing.T) { try(t, steps, true) })
}

func TestInstallInterrupted(t *testing.T) {
	const steps = 15
	crashes(t, steps, func(t *testing.T, done int, decided bool) {
		s := newScene(t)
		before := s.tree()
		p := s.prepared(0, one)
		in := &intent.Intent{Verb: intent.Install, Name: "etcd", From: intent.None, To: 0, Fresh: true}
		s.placed(p, in, nil)
		if len(in.Steps) != steps {
			t.Fatalf("%d steps, want %d: %+v", len(in.Steps), steps, in.Steps)
		}
		s.check(s.a.forward(in.Steps[:done], p.d))
		if decided {
			s.check(s.a.setCurrent("etcd", 0))
		}
		s.check(s.a.settle(t.Context(), "etcd"))
		if decided {
			s.installed(p)
			return
		}
		if diff := cmp.Diff(before, s.tree()); diff != "" {
			t.Errorf("host differs from before:\n%s", diff)
		}
		s.nothingLeft(0)
	})
}

func TestUpdateInterrupted(t *testing.T) {
	const steps = 11
	crashes(t, steps, func(t *testing.T, done int, decided bool) {
		s := newScene(t)
		from := s.install(one)
		before := s.tree()
		p := s.prepared(1, two)
		in := &intent.Intent{Verb: intent.Update, Name: "etcd", From: 0, To: 1, Fresh: true}
		s.placed(p, in, from.d)
		if len(in.Steps) != steps {
			t.Fatalf("%d steps, want %d: %+v", len(in.Steps), steps, in.Steps)
		}
		s.check(s.a.forward(in.Steps[:done], p.d))
		if decided {
			s.check(s.a.setCurrent("etcd", 1))
		}
		s.check(s.a.settle(t.Context(), "etcd"))
		if decided {
			s.installed(p)
			return
		}
		if diff := cmp.Diff(before, s.tree()); diff != "" {
			t.Errorf("host differs from before:\n%s", diff)
		}
		s.nothingLeft(1)
	})
}

func TestUninstallInterrupted(t *testing.T) {
	const steps = 17
	crashes(t, steps, func(t *testing.T, done int, decided bool) {
		s := newScene(t)
		before := s.tree()
		p := s.install(one)
		list, err := s.a.steps(p.d, nil)
		s.check(err)
		if len(list) != steps {
			t.Fatalf("%d steps, want %d: %+v", len(list), steps, list)
		}
		in := &intent.Intent{Verb: intent.Uninstall, Name: "etcd", From: 0, To: intent.None, Steps: list}
		s.check(intent.Write(s.host.Intents(), in))
		s.check(s.a.forward(in.Steps[:done], nil))
		if decided { // the directory is half gone as well
			s.check(os.Remove(s.host.Current("etcd")))
			s.check(os.Remove(filepath.Join(p.d.dir(), "info")))
		}
		s.check(s.a.settle(t.Context(), "etcd"))
		if diff := cmp.Diff(before, s.tree()); diff != "" {
			t.Errorf("host differs from before:\n%s", diff)
		}
		s.nothingLeft(0)
	})
}

// TestBegun is about directories of deployments that were begun, and of which
// nothing else knows yet: no finding, and gone after the next command.
func TestBegun(t *testing.T) {
	for _, installed := range []bool{true, false} {
		t.Run(fmt.Sprintf("installed %v", installed), func(t *testing.T) {
			s := newScene(t)
			if installed {
				s.install(one)
			}
			before, err := s.a.Verify(t.Context(), "")
			s.check(err)
			s.check(s.a.writeCopies(s.prepared(1, two)))
			now, err := s.a.Verify(t.Context(), "")
			s.check(err)
			if diff := cmp.Diff(before, now); diff != "" {
				t.Errorf("findings differ:\n%s", diff)
			}
			s.check(s.a.Settle(t.Context()))
			s.nothingLeft(1)
		})
	}
}

// TestUndoLeavesOthersAlone is about a file that somebody wrote between the
// crash and the recovery.
func TestUndoLeavesOthersAlone(t *testing.T) {
	s := newScene(t)
	p := s.prepared(0, one)
	in := &intent.Intent{Verb: intent.Install, Name: "etcd", From: intent.None, To: 0, Fresh: true}
	s.placed(p, in, nil)
	s.check(s.a.forward(in.Steps, p.d))
	s.check(os.WriteFile(s.host.Path("/etc/etcd/conf"), []byte("mine"), 0o600))
	s.check(s.a.settle(t.Context(), "etcd"))
	if data, err := os.ReadFile(s.host.Path("/etc/etcd/conf")); string(data) != "mine" {
		t.Errorf("content %q, %v", data, err)
	}
	if len(s.said) != 1 || !strings.Contains(s.said[0], "/etc/etcd/conf") {
		t.Errorf("said %q", s.said)
	}
}

// TestUpdateKeepsModified is about host files that the administrator edited:
// they stay, over several updates, and stay known.
func TestUpdateKeepsModified(t *testing.T) {
	s := newScene(t)
	from := s.install(one)
	s.check(os.WriteFile(s.host.Path("/usr/local/bin/ctl"), []byte("mine"), 0o755))
	p := s.prepared(1, two)
	in := &intent.Intent{Verb: intent.Update, Name: "etcd", From: 0, To: 1, Fresh: true}
	s.placed(p, in, from.d)
	s.check(s.a.forward(in.Steps, p.d))
	s.check(s.a.setCurrent("etcd", 1))
	s.check(s.a.settle(t.Context(), "etcd"))
	if data, err := os.ReadFile(s.host.Path("/usr/local/bin/ctl")); string(data) != "mine" {
		t.Errorf("content %q, %v", data, err)
	}
	if want := "Will not replace /usr/local/bin/ctl as it was manually modified."; len(s.said) != 1 || s.said[0] != want {
		t.Errorf("said %q, want %q", s.said, want)
	}
	if p.d.sumOf("/usr/local/bin/ctl") == "" {
		t.Error("the file is no longer known")
	}
}

// TestDirectoriesOfAllGenerations is about a directory that an update brought:
// after going back, removing the container removes it as well.
func TestDirectoriesOfAllGenerations(t *testing.T) {
	s := newScene(t)
	before := s.tree()
	from := s.install(one)
	p := s.prepared(1, two)
	in := &intent.Intent{Verb: intent.Update, Name: "etcd", From: 0, To: 1, Fresh: true}
	s.placed(p, in, from.d)
	s.check(s.a.forward(in.Steps, p.d))
	s.check(s.a.setCurrent("etcd", 1))
	s.check(s.a.settle(t.Context(), "etcd"))
	if _, err := s.a.Rollback(t.Context(), "etcd", RollbackOptions{To: intent.None}); err != nil {
		t.Fatal(err)
	}
	s.installed(from)
	s.check(s.a.Uninstall(t.Context(), "etcd"))
	if diff := cmp.Diff(before, s.tree()); diff != "" {
		t.Errorf("host differs from before:\n%s", diff)
	}
}

// install installs a deployment the short way.
func (s *scene) install(files map[string]string) *prepared {
	s.Helper()
	p := s.prepared(0, files)
	in := &intent.Intent{Verb: intent.Install, Name: "etcd", From: intent.None, To: 0, Fresh: true}
	s.placed(p, in, nil)
	s.check(s.a.forward(in.Steps, p.d))
	s.check(s.a.setCurrent("etcd", 0))
	_, err := s.a.complete(s.Context(), in, true)
	s.check(err)
	return p
}

// installed checks that everything of a deployment is on the host.
func (s *scene) installed(p *prepared) {
	s.Helper()
	d, err := s.a.current("etcd")
	s.check(err)
	if d == nil || d.gen != p.d.gen {
		s.Fatalf("current is %+v, want generation %d", d, p.d.gen)
	}
	entries, err := d.entries()
	s.check(err)
	for _, e := range entries {
		if _, sum, err := probe(s.host.Path(e.path)); sum != e.sum {
			s.Errorf("%s: sum %q, %v", e.path, sum, err)
		}
	}
	if names, err := intent.List(s.host.Intents()); len(names) != 0 {
		s.Errorf("intents left: %v, %v", names, err)
	}
}

// nothingLeft checks that there is no trace of a generation and no intent.
func (s *scene) nothingLeft(gen int) {
	s.Helper()
	if _, err := os.Lstat(s.host.Deployment("etcd", gen)); err == nil {
		s.Errorf("deployment %d is left", gen)
	}
	if names, err := intent.List(s.host.Intents()); len(names) != 0 {
		s.Errorf("intents left: %v, %v", names, err)
	}
}
