// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
)

// ociRuntime is another program that makes a container, as OCI's command line
// describes it, when the administrator wants that. It is told as little as
// possible: its environment is empty, its state is in the run-time directory,
// and what the unit does instead of a runtime is not in the configuration that
// it gets.
//
// The unit's processes stay in the unit's cgroup. crun is told to leave cgroups
// alone. runc has no such option, but goes on without a cgroup of its own where
// it may not make one; so it finds the hierarchy read-only (see apart).
type ociRuntime struct {
	record.Runtime
	run  runDir
	name string
}

// runtimeFile says which runtime made a container. The record may be that of
// another deployment when the container stops.
type runtimeFile struct {
	Version int `json:"version"`
	record.Runtime
}

// noteRuntime writes which runtime makes the container.
func (r runDir) noteRuntime(rt record.Runtime) error {
	data, err := json.Marshal(runtimeFile{1, rt})
	if err != nil {
		return err
	}
	return replace(r.runtime(), append(data, '\n'))
}

// ociRuntime returns the runtime that made the container, nil if none did.
func (r runDir) ociRuntime(name string) (*ociRuntime, error) {
	data, err := os.ReadFile(r.runtime())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read runtime: %w", err)
	}
	var f runtimeFile
	if err := json.Unmarshal(data, &f); err != nil || f.Version != 1 || !filepath.IsAbs(f.Path) {
		return nil, fmt.Errorf("read runtime: %s is not ours to read", r.runtime())
	}
	return &ociRuntime{f.Runtime, r, name}, nil
}

// command is one of the runtime's commands, with its state in root.
func (o *ociRuntime) command(ctx context.Context, root, verb string, args ...string) *exec.Cmd {
	all := []string{"--root", root}
	switch o.Kind {
	case record.Crun:
		all = append(all, "--cgroup-manager=disabled")
	case record.Runc:
		all = append(all, "--rootless=true") // which means cgroups only, for root
	}
	all = append(append(all, verb), args...)
	cmd := exec.CommandContext(ctx, o.Path, append(all, o.name)...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"XDG_RUNTIME_DIR=" + o.run.bundle(), // where crun makes a directory that it does not use
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// failed explains a command of the runtime that did not work. What the runtime
// has to say about it is in the journal.
func (o *ociRuntime) failed(verb string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return hint.New(fmt.Errorf("%s container %q: execute the runtime: %w", verb, o.name, err),
			fmt.Sprintf("install it again, or do without: atomic containers update --runtime atomic %s", o.name))
	}
	return fmt.Errorf("%s container %q: %s: %w", verb, o.name, o.Path, err)
}

// startByRuntime releases init.
func startByRuntime(ctx context.Context, run runDir, name string) error {
	o, err := run.ociRuntime(name)
	if err != nil {
		return err
	}
	if o == nil {
		return errors.New("nobody knows which runtime made it")
	}
	if err := o.command(ctx, run.runtimeState(), "start").Run(); err != nil {
		return o.failed("start", err)
	}
	return nil
}

// deleteByRuntime has the runtime that made a dead container, if one did, run
// its poststop hooks and forget it.
func (r runDir) deleteByRuntime(ctx context.Context, name string) error {
	o, err := r.ociRuntime(name)
	if o == nil || err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(r.runtimeState(), name)); errors.Is(err, fs.ErrNotExist) {
		return nil // it has not come so far
	}
	// systemd may remove the directory at the same time, which a runtime that
	// knows its name would make again.
	root, err := os.Open(r.runtimeState())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return o.failed("delete", err)
	}
	defer root.Close()
	cmd := o.command(ctx, "/proc/self/fd/3", "delete", "--force")
	cmd.ExtraFiles = []*os.File{root}
	if err := cmd.Run(); err != nil {
		return o.failed("delete", err)
	}
	return nil
}
