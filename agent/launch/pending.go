// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/machined"
)

// pendingVersion is the version of the file "unregistered".
const pendingVersion = 1

type pendingFile struct {
	Version int              `json:"version"`
	Machine machined.Machine `json:"machine"`
}

// writePending notes that a running container is not registered.
func (r runDir) writePending(m machined.Machine) error {
	m.LeaderPIDFD = -1
	data, err := json.Marshal(pendingFile{pendingVersion, m})
	if err != nil {
		return err
	}
	return replace(r.pending(), append(data, '\n'))
}

// ErrNoAnswer means that machined has not answered, which it may yet do.
var ErrNoAnswer = errors.New("machined does not answer")

// RegisterPending registers every container that was started before machined
// could be reached, or while it did not answer. It goes on after a failure and
// reports all of them.
func (l Launcher) RegisterPending(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(l.Host.RunRoot(), "*", "unregistered"))
	if err != nil {
		return err
	}
	var failed []error
	for _, file := range files {
		if err := l.registerPending(ctx, file); err != nil {
			failed = append(failed, fmt.Errorf("register %q: %w", filepath.Base(filepath.Dir(file)), err))
		}
	}
	return errors.Join(failed...)
}

func (l Launcher) registerPending(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // stopped meanwhile
	}
	if err != nil {
		return err
	}
	var p pendingFile
	if err := json.Unmarshal(data, &p); err != nil || p.Version != pendingVersion {
		return fmt.Errorf("%s is not ours to read", file)
	}
	m := p.Machine
	if m.LeaderPIDFD, err = unix.PidfdOpen(m.Leader, 0); err != nil {
		return nil // exited meanwhile; its unit cleans up
	}
	leader := &initProcess{pid: m.Leader, fd: m.LeaderPIDFD}
	defer leader.close()
	// The PID may belong to somebody else by now: a leader is in its unit.
	if path, err := ownCgroup(m.Leader); err != nil || filepath.Base(path) != m.Unit {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	err = l.Registrar.Register(ctx, m)
	switch {
	case err != nil && leader.gone():
		return nil // stopped meanwhile
	case unanswered(err):
		return ErrNoAnswer
	case err != nil:
		return err
	}
	return runDir(filepath.Dir(file)).registered()
}
