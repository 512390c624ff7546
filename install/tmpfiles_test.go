// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/install/intent"
)

func TestSimpleLines(t *testing.T) {
	const text = `# a comment
d /etc/x 0755 root root - -
L /etc/x/link - - - -	/target with blanks
L+ /etc/x/factory
f /etc/x/file 0644 root root - some content
F+ /etc/x/empty
w /etc/x/written - - - - no
f /etc/x/%H - - - - specifier
f "/etc/x/quoted" - - - - x
f /etc/x/escape - - - - a\nb
`
	var got []string
	for _, l := range simpleLines([]byte(text)) {
		got = append(got, fmt.Sprintf("%s %v %s", l.path, l.dir, l.kind))
	}
	want := []string{"/etc/x true ", "/etc/x/link false symlink", "/etc/x/file false file", "/etc/x/empty false file"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	lines := simpleLines([]byte(text))
	if lines[1].sum != linkSum("/target with blanks") || lines[2].sum != fileSum([]byte("some content")) || lines[3].sum != fileSum(nil) {
		t.Errorf("sums %+v", lines)
	}
}

// TestMadeBehindSymlink is about a container that made a symlink of a
// directory in which tmpfiles made a file for it: what is behind it stays.
func TestMadeBehindSymlink(t *testing.T) {
	s := newScene(t)
	p := s.prepared(0, nil)
	p.out.Tmpfiles = []byte("f /run/etcd/file 0644\nf /run/etcd/sub/file 0644\n")
	p.d.rec.Atomic.Units = nil
	s.a.collect(p, []byte("[Mount]\n"))
	in := &intent.Intent{Verb: intent.Install, Name: "etcd", From: intent.None, To: 0, Fresh: true}
	s.placed(p, in, nil)
	s.check(s.a.forward(in.Steps, p.d))
	s.check(s.a.setCurrent("etcd", 0))
	_, err := s.a.complete(t.Context(), in, true)
	s.check(err)
	s.check(os.MkdirAll(s.host.Path("/run/etcd"), 0o755))
	s.check(os.MkdirAll(s.host.Path("/etc/innocent"), 0o755))
	for _, f := range []string{"/run/etcd/file", "/etc/innocent/file"} {
		s.check(os.WriteFile(s.host.Path(f), nil, 0o644))
	}
	s.check(os.Symlink(s.host.Path("/etc/innocent"), s.host.Path("/run/etcd/sub")))
	s.check(s.a.Uninstall(t.Context(), "etcd"))
	if _, err := os.Lstat(s.host.Path("/run/etcd/file")); err == nil {
		t.Error("what tmpfiles made is left")
	}
	if _, err := os.Lstat(s.host.Path("/etc/innocent/file")); err != nil {
		t.Errorf("a file of the host is gone: %v", err)
	}
}
