// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/system"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/health"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/sdbus"
)

// restartTimeout bounds how long systemd may take to queue a restart.
const restartTimeout = 25 * time.Second

// UnhealthyError says that a container does not do its work.
type UnhealthyError struct{ Answer string }

func (e *UnhealthyError) Error() string { return e.Answer }

// Health runs a container's health check once and notes the answer for
// atomic(1). When as many have failed as the image allows, the container is
// unhealthy: that is an error, and it is restarted if its administrator wants
// that. A container that does not run, or is frozen, is left alone.
func (l Launcher) Health(ctx context.Context, name string) error {
	j, h, err := l.joinForHealth(name)
	if errors.Is(err, errNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer j.close()
	failure, err := j.ask(ctx, h)
	if err != nil {
		return err
	}
	if !j.runs() {
		return nil // stopped or frozen meanwhile, so the answer is about that
	}
	before, err := health.Read(runOf(l.Host, name).health())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.Log.Warn("read what was noted about its health, ignoring", "err", err)
	}
	now := before.Next(h, age(j.started), time.Now(), failure)
	if err := l.noteHealth(name, now); err != nil {
		return err
	}
	switch {
	case failure == "" && before.Failures > 0:
		l.Log.Warn(fmt.Sprintf("%s is healthy again", name))
	case failure != "" && now.Status != health.Unhealthy:
		l.Log.Warn(fmt.Sprintf("health check %d of %d of %s has failed: %s", now.Failures, h.Retries, name, failure))
	}
	if now.Status != health.Unhealthy {
		return nil
	}
	if before.Status != health.Unhealthy {
		l.Log.Error(fmt.Sprintf("%s is unhealthy: %s", name, failure))
	}
	if o := j.d.rec.Atomic.Options; o != nil && o.HealthOnFailure == "restart" {
		return errors.Join(&UnhealthyError{failure}, l.restart(ctx, name, j.d.rec.Atomic.Start.Unit))
	}
	return &UnhealthyError{failure}
}

// HealthOnce runs the health check once for somebody who waits for the
// container to come up: a failure means nothing yet and is not noted.
func (l Launcher) HealthOnce(ctx context.Context, name string) error {
	j, h, err := l.joinForHealth(name)
	if err != nil {
		return err
	}
	defer j.close()
	failure, err := j.ask(ctx, h)
	if err != nil {
		return err
	}
	if failure != "" {
		return &UnhealthyError{failure}
	}
	return l.noteHealth(name, health.State{}.Next(h, 0, time.Now(), ""))
}

func (l Launcher) joinForHealth(name string) (*joined, *record.Health, error) {
	j, err := l.join(name)
	if err != nil {
		return nil, nil, err
	}
	h := j.d.rec.Atomic.Start.Health
	if h == nil {
		j.close()
		return nil, nil, fmt.Errorf("container %q has no health check", name)
	}
	return j, h, nil
}

// noteHealth writes the file; without its directory the container has stopped.
func (l Launcher) noteHealth(name string, s health.State) error {
	data, err := s.Marshal()
	if err != nil {
		return err
	}
	if err := replace(runOf(l.Host, name).health(), data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note the health of %q: %w", name, err)
	}
	return nil
}

// restart leaves it to systemd: stop signal, timeouts, dependents and limits of
// restarts are the unit's. Nothing is started that does not run.
func (l Launcher) restart(ctx context.Context, name, unit string) error {
	l.Log.Warn(fmt.Sprintf("restarting %s, as --health-on-failure says", name))
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	if err := sdbus.Call(ctx, "TryRestartUnit", unit, "replace"); err != nil {
		return fmt.Errorf("restart %s: %w", unit, err)
	}
	return nil
}

// age is how long ago a process was started, by its start time in ticks.
func age(start uint64) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	const tick = 10 * time.Millisecond                           // USER_HZ is 100 on all that Go runs on
	return time.Duration(now.Nano()) - time.Duration(start)*tick //nolint:gosec // centuries
}

// ask runs the check in the container, as the payload's user with the payload's
// confinement, and returns why it failed: "" if it passed.
func (j *joined) ask(ctx context.Context, h *record.Health) (failure string, err error) {
	p, err := j.process(command{args: h.Test})
	if err != nil {
		return "", err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	p.Stdin, p.Stdout, p.Stderr = null, w, w
	timeout := time.Duration(h.Timeout) * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	late := fmt.Sprintf("no answer in %v", timeout)
	// libcontainer cannot be interrupted, and a container that freezes meanwhile
	// takes nobody in. This process is gone at once when it has answered.
	started := make(chan error, 1)
	go func() { started <- j.container.Start(p) }()
	select {
	case err = <-started:
	case <-ctx.Done():
		return late, nil
	}
	_ = w.Close()
	if err != nil {
		return fmt.Sprintf("execute %q: %v", h.Test[0], err), nil
	}
	said := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(r, health.MaxAnswer))
		_, _ = io.Copy(io.Discard, r) // what fails with a full pipe has not failed
		said <- string(text)
	}()
	inTime := context.AfterFunc(ctx, func() { _ = p.Signal(unix.SIGKILL) })
	code, err := wait(p)
	// What the check has left running may hold the pipe for ever.
	_ = r.SetReadDeadline(time.Now().Add(time.Second))
	switch ended := inTime(); {
	case err != nil:
		return "", err
	case !ended:
		failure = late
	case code != 0:
		failure = fmt.Sprintf("exit status %d", code)
	default:
		return "", nil
	}
	if text := oneLine(<-said); text != "" {
		failure += fmt.Sprintf(": %q", text)
	}
	return failure, nil
}

// runs reports whether the container has neither stopped nor been frozen.
// libcontainer answers nobody while it starts a process.
func (j *joined) runs() bool {
	stat, err := system.Stat(j.init)
	if err != nil || stat.StartTime != j.started || stat.State == system.Zombie || stat.State == system.Dead {
		return false
	}
	freezer, err := unitCgroup{j.cgroup}.GetFreezerState()
	return err == nil && freezer == cgroups.Thawed
}

// oneLine is a text without line breaks and control characters.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(c rune) bool { return c <= ' ' || c == 0x7f }), " ")
}
