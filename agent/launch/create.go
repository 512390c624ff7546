// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
)

// Create is the creator's half of a start: it makes the container up to the
// point where its init waits for release, tells the launcher and returns; the
// process must exit then, which makes init a child of PID 1.
func (l Launcher) Create(ctx context.Context, name string, twin *os.File) error {
	d, err := open(l.Host, name)
	if err != nil {
		return err
	}
	run, unit, err := l.prepare(d)
	if err != nil {
		return err
	}
	if d.rec.Atomic.Start.Runtime != nil {
		return l.createByRuntime(ctx, d, run, unit, twin)
	}
	cfg, payload, err := l.payload(d)
	if err != nil {
		return err
	}
	if _, err := create(run, name, unit, cfg, payload); err != nil {
		return errors.Join(err, run.reconcile(name))
	}
	pid, err := payload.Pid()
	if err == nil {
		err = sendInit(twin, pid, d.digest)
	}
	if err != nil {
		return errors.Join(err, payload.Signal(os.Kill))
	}
	return nil
}

// create has libcontainer make a container, in the unit's own cgroup, up to the
// point where its init waits.
func create(run runDir, name, unit string, cfg *configs.Config, p *libcontainer.Process) (*libcontainer.Container, error) {
	c, err := libcontainer.Create(run.state(), name, cfg)
	if err != nil {
		return nil, fmt.Errorf("create container %q: %w", name, err)
	}
	if err := setCgroupManager(c, unitCgroup{unit}); err != nil {
		return nil, err
	}
	if err := c.Start(p); err != nil {
		return nil, fmt.Errorf("create container %q: %w", name, err)
	}
	return c, nil
}

// payload translates config.json and adds what the unit passes on: its stdio,
// environment, sockets and credentials.
func (l Launcher) payload(d *deployment) (*configs.Config, *libcontainer.Process, error) {
	// libcontainer takes the bundle's path, which hooks are told, from the
	// working directory.
	if err := os.Chdir(d.dir); err != nil {
		return nil, nil, fmt.Errorf("enter deployment: %w", err)
	}
	spec, err := d.parseSpec()
	if err != nil {
		return nil, nil, err
	}
	cfg, err := d.convert(spec, l.Log)
	if err != nil {
		return nil, nil, err
	}
	p, err := process(spec.Process)
	if err != nil {
		return nil, nil, err
	}
	if spec.Process.Terminal {
		if p.ConsoleSocket, err = d.console(); err != nil {
			return nil, nil, err
		}
	}
	if p.ExtraFiles, err = listenFDs(os.Getenv, os.Getppid()); err != nil {
		return nil, nil, err
	}
	p.Env = l.passOn(d, libcontainerConfig(cfg, p.Env), len(p.ExtraFiles))
	p.Init = true
	return cfg, p, nil
}
