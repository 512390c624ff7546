// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/record"
)

// Bundle is an OCI bundle to run as it is: a directory with config.json and a
// root file system. Nothing has been installed, so nothing is measured,
// registered or recorded. It exists to compare the engines with other runtimes
// on the same input; systemd plays no part in it.
type Bundle struct {
	// Dir is the bundle's directory.
	Dir string
	// ID names the container in its state.
	ID string
	// PIDFile receives init's PID before the payload runs, if it is not empty.
	PIDFile string
}

// bundleRun keeps the state of bundles apart from that of containers, whose
// names do not begin with a dot.
const bundleRun = ".bundles"

// RunBundle runs a bundle in the foreground, in the caller's own cgroup, and
// returns the payload's exit code: 128 plus the signal's number if a signal
// ended it.
func (l Launcher) RunBundle(b Bundle) (code int, err error) {
	if err := record.CheckName(b.ID); err != nil {
		return 1, err
	}
	run := runDir(filepath.Join(l.Host.RunRoot(), bundleRun, b.ID))
	if err := run.reconcile(b.ID); err != nil {
		return 1, err
	}
	if err := run.prepare(); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(string(run))) }()
	c, p, err := l.createBundle(b, run)
	if err != nil {
		return 1, err
	}
	if b.PIDFile != "" {
		pid, err := p.Pid()
		if err == nil {
			err = replace(b.PIDFile, []byte(strconv.Itoa(pid)))
		}
		if err != nil {
			return 1, errors.Join(err, p.Signal(unix.SIGKILL), destroy(c))
		}
	}
	defer forwardSignals(p.Signal, unix.SIGUSR1, unix.SIGUSR2)()
	if err := c.Exec(); err != nil {
		return 1, errors.Join(fmt.Errorf("start container %q: %w", b.ID, err), p.Signal(unix.SIGKILL), destroy(c))
	}
	code, err = wait(p)
	return code, errors.Join(err, destroy(c))
}

// destroy runs the poststop hooks and removes the state; the cgroup, in which
// the caller lives, stays.
func destroy(c *libcontainer.Container) error {
	if err := setCgroupManager(c, unitCgroup{}); err != nil {
		return err
	}
	return c.Destroy()
}

// open reads a bundle as if it were a deployment. Nothing has been recorded that
// it could differ from.
func (b Bundle) open() (*deployment, *specs.Spec, error) {
	dir, err := filepath.Abs(b.Dir)
	if err != nil {
		return nil, nil, err
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	d := &deployment{name: b.ID, dir: dir, config: config}
	spec, err := d.parseSpec()
	if err != nil {
		return nil, nil, err
	}
	if spec.Root == nil || spec.Root.Path == "" {
		return nil, nil, fmt.Errorf("read config.json of %q: root.path is empty", b.ID)
	}
	if d.root = spec.Root.Path; !filepath.IsAbs(d.root) {
		d.root = filepath.Join(dir, d.root)
	}
	return d, spec, nil
}

// createBundle makes the container up to the point where its init waits.
func (l Launcher) createBundle(b Bundle, run runDir) (*libcontainer.Container, *libcontainer.Process, error) {
	d, spec, err := b.open()
	if err != nil {
		return nil, nil, err
	}
	if err := os.Chdir(d.dir); err != nil {
		return nil, nil, fmt.Errorf("enter bundle: %w", err)
	}
	cfg, err := d.convert(spec, l.Log)
	if err != nil {
		return nil, nil, err
	}
	p, err := process(spec.Process)
	if err != nil {
		return nil, nil, err
	}
	p.Init = true
	unit, err := ownCgroup(0)
	if err != nil {
		return nil, nil, err
	}
	c, err := create(run, b.ID, unit, cfg, p)
	return c, p, err
}
