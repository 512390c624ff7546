// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/atomicfile"
)

// steps works out what leads from one deployment on the host to another;
// either may be nil. It changes nothing.
func (a *Agent) steps(from, to *deployment) ([]intent.Step, error) {
	before, err := from.entries()
	if err != nil {
		return nil, err
	}
	after, err := to.entries()
	if err != nil {
		return nil, err
	}
	was, will := byPath(before), byPath(after)
	list := a.dirSteps(to)
	for _, e := range after {
		old, mine := was[e.path]
		s, err := a.arrive(e, old, mine)
		if err != nil {
			return nil, err
		}
		list = append(list, s...)
	}
	for _, e := range slices.Backward(before) {
		if _, stays := will[e.path]; stays {
			continue
		}
		s, err := a.depart(e)
		if err != nil {
			return nil, err
		}
		list = append(list, s...)
	}
	if to == nil && from != nil {
		made, err := a.unmake(from.name)
		if err != nil {
			return nil, err
		}
		list = append(list, made...)
		held, err := a.heldDirectories(from.name)
		if err != nil {
			return nil, err
		}
		for _, dir := range slices.Backward(held) {
			list = append(list, intent.Step{Path: dir, Kind: intent.Dir, Before: record.DirChecksum})
		}
	}
	return list, nil
}

func byPath(list []entry) map[string]entry {
	m := map[string]entry{}
	for _, e := range list {
		m[e.path] = e
	}
	return m
}

// dirSteps makes the directories that the new deployment needs and that are
// not there.
func (a *Agent) dirSteps(to *deployment) []intent.Step {
	var list []intent.Step
	if to == nil {
		return nil
	}
	for _, dir := range to.rec.Atomic.Directories {
		if _, err := os.Lstat(a.host.Path(dir)); errors.Is(err, fs.ErrNotExist) && to.needs(dir) {
			list = append(list, intent.Step{Path: dir, Kind: intent.Dir, After: record.DirChecksum})
		}
	}
	return list
}

// needs reports whether a directory is the parent of a file of the deployment;
// the others among its directories are made by systemd-tmpfiles.
func (d *deployment) needs(dir string) bool {
	under := func(p string) bool { return p != dir && isBelow(p, dir) }
	return slices.ContainsFunc(d.rec.InstalledFiles, under) ||
		slices.ContainsFunc(d.rec.Atomic.Units, func(f record.File) bool { return under(f.Path) })
}

// isBelow reports whether a path is a directory or below it.
func isBelow(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// arrive plans how a file of the new deployment gets to its place.
func (a *Agent) arrive(e, old entry, mine bool) ([]intent.Step, error) {
	_, now, err := probe(a.host.Path(e.path))
	if err != nil {
		return nil, err
	}
	step := intent.Step{Path: e.path, Kind: e.kind, Before: now, After: e.sum}
	switch {
	case now == "" || mine && now == old.sum:
		return []intent.Step{step}, nil
	case mine && e.unit:
		a.say("Replacing %s, which was manually modified.", e.path)
		return []intent.Step{step}, nil
	case mine:
		if now != e.sum {
			a.say("Will not replace %s as it was manually modified.", e.path)
		}
		return nil, nil
	}
	return nil, &existsError{e.path}
}

// depart plans how a file of the old deployment goes away.
func (a *Agent) depart(e entry) ([]intent.Step, error) {
	_, now, err := probe(a.host.Path(e.path))
	if err != nil {
		return nil, err
	}
	if now == "" {
		return nil, nil
	}
	if now != e.sum && !e.unit {
		a.say("Will not delete %s as it was manually modified.", e.path)
		return nil, nil
	}
	return []intent.Step{{Path: e.path, Kind: e.kind, Before: now}}, nil
}

// existsError says that a file of ours would replace one that is not.
type existsError struct{ path string }

func (e *existsError) Error() string { return fmt.Sprintf("The file %s already exists.", e.path) }

// Hint says how to go on.
func (e *existsError) Hint() string {
	return "remove it, or give the container another name with --name; nothing was installed"
}

// forward takes steps in order, backward in reverse order and direction. Both
// are idempotent and leave alone what is neither the step's before nor after.
func (a *Agent) forward(steps []intent.Step, to *deployment) error {
	for _, s := range steps {
		if err := a.move(s, s.Before, s.After, to); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) backward(steps []intent.Step, from *deployment) error {
	for _, s := range slices.Backward(steps) {
		if err := a.move(s, s.After, s.Before, from); err != nil {
			return err
		}
	}
	return nil
}

// move takes one path from a state to another. d has the content of the latter.
func (a *Agent) move(s intent.Step, from, to string, d *deployment) error {
	path := a.host.Path(s.Path)
	if s.Straight && !straight(filepath.Dir(path)) {
		return nil
	}
	if s.Kind != intent.Dir {
		// Left by a crash in the middle of this very step.
		if err := os.Remove(atomicfile.Temp(path)); err != nil && !gone(err) {
			return err
		}
	}
	_, now, err := probe(path)
	if err != nil {
		return err
	}
	switch {
	case to == "" && now == "":
		return nil
	case to == "" && now == from:
		return a.remove(s, path)
	case to == "" || now != from && now != to && now != "":
		a.say("Leaving %s alone, which somebody changed meanwhile.", s.Path)
		return nil
	}
	if err := a.put(path, now, d, s); err != nil {
		return fmt.Errorf("write %s: %w", s.Path, err)
	}
	return nil
}

// straight reports whether no symlink leads to a directory.
func straight(dir string) bool {
	real, err := filepath.EvalSymlinks(dir)
	return err == nil && real == dir
}

func (a *Agent) remove(s intent.Step, path string) error {
	err := atomicfile.Remove(path)
	if s.Kind == intent.Dir && (errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.EBUSY)) {
		return nil // others use it
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", s.Path, err)
	}
	return nil
}

// put makes path what d's copy of it is.
func (a *Agent) put(path, now string, d *deployment, s intent.Step) error {
	if s.Kind == intent.Dir {
		return mkdir(path)
	}
	if d == nil {
		return errors.New("no deployment has its content")
	}
	src := d.copyOf(s.Path)
	kind, sum, err := probe(src)
	if err != nil {
		return err
	}
	if want := d.sumOf(s.Path); sum != want || sum == "" {
		return fmt.Errorf("%s was changed; it should have the SHA-256 %s", src, want)
	}
	if kind == intent.Dir {
		return mkdir(path)
	}
	if kind == intent.Symlink {
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		if now == "" {
			return atomicfile.CreateLink(target, path)
		}
		return atomicfile.ReplaceLink(target, path)
	}
	attr, data, err := readCopy(src)
	if err != nil {
		return err
	}
	if now == "" {
		return atomicfile.Create(path, data, attr)
	}
	if now == sum && sameAttr(path, attr) {
		return nil
	}
	return atomicfile.Replace(path, data, attr)
}

func readCopy(src string) (atomicfile.Attr, []byte, error) {
	attr, err := attrOf(src)
	if err != nil {
		return attr, nil, err
	}
	data, err := os.ReadFile(src)
	return attr, data, err
}

func attrOf(path string) (atomicfile.Attr, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return atomicfile.Attr{}, err
	}
	a := atomicfile.Attr{Mode: st.Mode() &^ fs.ModeType}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID = int(sys.Uid), int(sys.Gid)
	}
	return a, nil
}

func sameAttr(path string, want atomicfile.Attr) bool {
	got, err := attrOf(path)
	return err == nil && got == want
}

func mkdir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		if st, serr := os.Lstat(path); serr == nil && st.IsDir() {
			return nil
		}
		return err
	}
	if err := os.Chmod(path, 0o755); err != nil { //nolint:gosec // a directory of the host, whatever the umask
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
