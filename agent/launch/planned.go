// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/agent/launch/setup"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

// ErrNoPlan is returned for a container that has no plan this program can
// execute. The other engine starts it.
var ErrNoPlan = errors.New("no plan")

// StartPlanned is one start by the deployment's compiled plan, with the same
// promises as Start and without libcontainer.
//
// Init is cloned as a sibling: a child of systemd from its first moment on. So
// everything that has to happen before the payload may run happens at the same
// time: init makes the container, systemd learns who the main process is, the
// TPM is extended and machined is told. The payload is released when the last
// of them is done.
func (l Launcher) StartPlanned(ctx context.Context, name string) error {
	p, peeked, err := peekPlan(l.Host, name)
	if err != nil {
		return err
	}
	passed, err := listenFDs(os.Getenv, os.Getpid())
	if err != nil {
		return err
	}
	// Init does nothing before it is told to, and that happens only when everything
	// is right.
	init, err := clone(p, passed, unix.CLONE_PARENT)
	if err != nil {
		return fmt.Errorf("create container %q: %w", name, err)
	}
	// Init that is not released goes away with this process, and not before it:
	// init may be the unit's main process by then, and once that has exited,
	// systemd kills whoever would still report the error.

	d, err := open(l.Host, name)
	if err != nil {
		return err
	}
	if err := d.checkPlan(p, peeked); err != nil {
		return err
	}
	run, unit, err := l.prepare(d)
	if err != nil {
		return err
	}
	inside, err := l.listen(run, d, unit)
	if err != nil {
		return err
	}
	defer inside.close()
	p.Env = l.passOn(d, planConfig(p), len(passed))
	made := make(chan error, 1)
	go func() {
		made <- init.Make(setup.Container{Name: name, Root: d.rootfs(), Cgroup: unit, Plan: p})
	}()

	measured := make(chan error, 1)
	go func() { measured <- l.measure(ctx, d) }()
	adopted, err := l.handOver(run, &init.initProcess)
	if err != nil {
		return err
	}
	registration := l.register(ctx, run, d, &init.initProcess)
	if err := init.await(adopted); err != nil {
		return err
	}
	if err := <-made; err != nil {
		return fmt.Errorf("start container %q: %w", name, err)
	}
	if err := <-measured; err != nil {
		return err
	}
	registration.wait()
	// From here on the container can be joined.
	if err := run.writeInit(init.pid); err != nil {
		return err
	}
	if err := init.Release(); err != nil {
		return fmt.Errorf("start container %q: %w", name, err)
	}
	if err := l.waitReady(run, d, &init.initProcess, inside); err != nil {
		return err
	}
	inside.close() // nobody reads what comes now
	registration.end(ctx)
	return nil
}

// peekPlan reads a container's plan, which nobody has checked yet, and returns
// its content as well. Without a plan it returns ErrNoPlan.
func peekPlan(host paths.Host, name string) (*plan.Plan, []byte, error) {
	if err := record.CheckName(name); err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(filepath.Join(host.Current(name), "plan"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, ErrNoPlan
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read plan: %w", err)
	}
	p, err := plan.Parse(data)
	if errors.Is(err, plan.ErrVersion) {
		return nil, nil, ErrNoPlan
	}
	if err != nil {
		return nil, nil, hint.New(fmt.Errorf("plan of %q: %w", name, err), reinstall)
	}
	return p, data, nil
}

// checkPlan makes sure that p, parsed from data, is the deployment's plan. A
// deployment that has none is no failure: the other engine does not need it. A
// plan that install did not write for exactly this deployment is.
func (d *deployment) checkPlan(p *plan.Plan, data []byte) error {
	if d.plan == nil {
		return ErrNoPlan
	}
	a := &d.rec.Atomic
	sum := sha256.Sum256(data)
	switch {
	case !bytes.Equal(d.plan, data):
		return fmt.Errorf("container %q was changed while it was started", d.name)
	case hex.EncodeToString(sum[:]) != a.Start.PlanSHA256:
		return hint.New(fmt.Errorf("plan of %q is not the one that was installed", d.name), reinstall)
	case p.Config != a.ConfigSHA256 || p.Rootfs != a.Rootfs.Image:
		return hint.New(fmt.Errorf("plan of %q is for another configuration or image", d.name), reinstall)
	}
	return nil
}

// planConfig is a plan as what the unit passes on changes it.
func planConfig(p *plan.Plan) engineConfig {
	return engineConfig{
		env:         p.Env,
		privatePIDs: p.Namespaces&unix.CLONE_NEWPID != 0,
		userNS:      p.UserNS(),
		hasTmpfs: func(target string) bool {
			return slices.ContainsFunc(p.Mounts, func(m plan.Mount) bool { return m.Target == target && m.Type == "tmpfs" })
		},
		bind: func(source, target string, idmap bool) {
			m := plan.Mount{
				Type: "bind", Source: source, Target: target,
				Set:   unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
				Clear: unix.MOUNT_ATTR_NOSYMFOLLOW,
			}
			if idmap {
				m.IDMap = plan.IDMapTop
			}
			p.Mounts = append(p.Mounts, m)
		},
	}
}

// plannedInit is init between its clone and its release.
type plannedInit struct {
	*setup.Init
	initProcess
}

func clone(p *plan.Plan, passed []*os.File, how uintptr) (*plannedInit, error) {
	init, err := setup.Clone(p, passed, how)
	if err != nil {
		return nil, err
	}
	return &plannedInit{init, initProcess{pid: init.PID, fd: init.FD}}, nil
}
