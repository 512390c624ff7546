// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/atomic-agent/atomic/internal/sdbus"
	"github.com/atomic-agent/atomic/machined"
)

// registerTimeout bounds a registration. machined may have to be started first,
// by a busy host.
const registerTimeout = 10 * time.Second

// registerPatience bounds what a machined that runs may cost a start, or a stop.
const registerPatience = 2 * time.Second

// registerUnit registers what could not be registered when it was started.
const registerUnit = "atomic-register.service"

// Registrar makes a container known to machined.
type Registrar interface {
	Register(ctx context.Context, m machined.Machine) error
	// Running reports whether machined runs already.
	Running() bool
}

// registration is one container's, which goes on while the start does. A nil one
// is that of a container that is not registered.
type registration struct {
	l       Launcher
	run     runDir
	machine machined.Machine
	cancel  context.CancelFunc
	wants   time.Duration
	done    chan error
	over    bool
}

// register begins to tell machined about the container. Its init waits in the
// unit's own cgroup, which is how machined learns the unit. A host where that
// fails runs the container all the same.
func (l Launcher) register(ctx context.Context, run runDir, d *deployment, init *initProcess) *registration {
	if l.Registrar == nil || !d.rec.Atomic.Start.Register {
		return nil
	}
	r := &registration{l: l, run: run, wants: registerTimeout, done: make(chan error, 1), machine: machined.Machine{
		Name: d.name, Unit: d.rec.Atomic.Start.Unit,
		Leader: init.pid, LeaderPIDFD: init.fd, RootDirectory: d.rootfs(),
	}}
	if d.rec.Atomic.Start.Bus {
		r.machine.Control = l.Host.Control(d.name)
	}
	if l.Registrar.Running() {
		r.wants = registerPatience
	}
	ctx, r.cancel = context.WithTimeout(ctx, registerTimeout)
	go func() { r.done <- l.Registrar.Register(ctx, r.machine) }()
	return r
}

// wait waits until the container is registered, which it is to be before its
// payload runs. A machined that is slow goes on meanwhile; should the launcher
// not live to see that, the note tells the next one.
func (r *registration) wait() {
	if r == nil {
		return
	}
	patience := time.NewTimer(r.wants)
	defer patience.Stop()
	select {
	case err := <-r.done:
		r.over = true
		r.result(err)
	case <-patience.C:
		r.note()
	}
}

// end waits for a registration that is not done when the container is up, which
// keeps nobody but this process. If there is no answer, systemd is asked to try
// until there is.
func (r *registration) end(ctx context.Context) {
	if r == nil {
		return
	}
	defer r.cancel()
	if r.over {
		return
	}
	err := <-r.done
	if err == nil {
		err = r.run.registered()
	}
	if !unanswered(err) {
		r.result(err)
		return
	}
	r.l.Log.Warn("machined does not answer, registering later")
	if err := askRegister(ctx); err != nil {
		r.l.Log.Warn("cannot have the container registered later, ignoring", "error", err)
	}
}

// unanswered reports whether a registration has failed because machined did not
// answer in time.
func unanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// result says what has become of the registration. What could not be reached is
// left for `atomic-launch register --pending`.
func (r *registration) result(err error) {
	switch {
	case err == nil:
		return
	case errors.Is(err, machined.ErrInvalidName):
		r.l.Log.Debug("not registering with machined", "reason", err)
		return
	case errors.Is(err, machined.ErrUnavailable):
		r.l.Log.Debug("machined is not there yet, registering later", "reason", err)
	default:
		r.l.Log.Warn("cannot register with machined, ignoring", "error", err)
	}
	r.note()
}

func (r *registration) note() {
	if err := r.run.writePending(r.machine); err != nil {
		r.l.Log.Warn("cannot note the missing registration, ignoring", "error", err)
	}
}

// registered removes the note.
func (r runDir) registered() error { return remove(r.pending()) }

// askRegister has systemd start the unit that catches up.
func askRegister(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	if err := sdbus.Call(ctx, "StartUnit", registerUnit, "replace"); err != nil {
		return fmt.Errorf("start %s: %w", registerUnit, err)
	}
	return nil
}
