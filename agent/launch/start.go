// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/paths"
)

// Launcher starts containers.
type Launcher struct {
	Host paths.Host
	Log  *slog.Logger
	// TPM is the host's measurement policy.
	TPM conf.TPM
	// Registrar is nil if nothing is registered.
	Registrar Registrar
	// Notify is the address of systemd's notification socket, or empty.
	Notify string
	// Report tells people why a start failed.
	Report func(error)
}

// Start is one start of a container, seen by the launcher. The creator is its
// other half (see Create), twin the socket between them and creator its PID.
//
// Up to the point where init is released nothing of the image has run, so every
// failure before it kills init and is the unit's failure. From MAINPID= on
// systemd waits for init itself: whatever init's fate is, the unit learns it at
// first hand, and it no longer matters what becomes of the launcher.
func (l Launcher) Start(ctx context.Context, name string, twin *os.File, creator int) error {
	d, err := open(l.Host, name)
	if err != nil {
		return l.Abandon(creator, err)
	}
	run := runOf(l.Host, name)
	if err := run.prepare(); err != nil {
		return l.Abandon(creator, err)
	}
	unit, err := ownCgroup(0)
	if err != nil {
		return l.Abandon(creator, err)
	}

	// The register is extended while the creator works: both must be done
	// before the payload runs, and neither needs the other.
	measured := make(chan error, 1)
	go func() { measured <- l.measure(ctx, d) }()

	init, err := receiveInit(twin, creator)
	if merr := <-measured; merr != nil {
		init.kill()
		return errors.Join(merr, err)
	}
	if err != nil {
		return err
	}
	defer init.close()
	if init.digest != d.digest {
		init.kill()
		return fmt.Errorf("container %q was changed while it was started", name)
	}

	inside, err := l.listen(run, d, unit)
	if err != nil {
		init.kill()
		return err
	}
	defer inside.close()
	adopted, err := l.handOver(run, init)
	if err != nil {
		return l.fail(init, err)
	}
	registration := l.register(ctx, run, d, init)
	if err := init.await(adopted); err != nil {
		return l.fail(init, err)
	}
	registration.wait()
	if err := l.release(ctx, run, d, init); err != nil {
		return l.fail(init, fmt.Errorf("release container %q: %w", name, err))
	}
	if err := l.waitReady(run, d, init, inside); err != nil {
		return err
	}
	inside.close() // nobody reads what comes now
	registration.end(ctx)
	return nil
}

// release lets init execute the payload.
func (l Launcher) release(ctx context.Context, run runDir, d *deployment, init *initProcess) error {
	if d.rec.Atomic.Start.Runtime != nil {
		return startByRuntime(ctx, run, d.name)
	}
	return init.release(run.fifo(d.name))
}

// fail ends an init that may be the unit's main process already. The reason is
// told first: once the main process has exited, systemd kills whoever would
// still tell it.
func (l Launcher) fail(init *initProcess, err error) error {
	l.Report(err)
	init.kill()
	return &ExitError{1}
}

// listen puts a notification socket where the payload looks for one. The
// launcher's own is returned; there is none if the payload has systemd's, or
// wants none.
func (l Launcher) listen(run runDir, d *deployment, unit string) (*relay, error) {
	switch d.rec.Atomic.Start.Notify {
	case notifyRaw:
		return nil, linkRaw(run, l.Notify)
	case notifyLauncher:
		return nil, nil
	case notifyRelay:
		if os.Getenv("WATCHDOG_USEC") != "" {
			l.Log.Warn("the unit has a watchdog that its payload cannot reach: " +
				"install with --property WatchdogSec=, instead of setting it later")
		}
	}
	inside, err := listenRelay(run.relay(), unit)
	if err == nil {
		inside.late = d.rec.Atomic.Start.Notify == notifyFilter
	}
	return inside, err
}

// Abandon ends the creator after the launcher has failed.
func (l Launcher) Abandon(creator int, err error) error {
	if creator > 0 {
		_ = unix.Kill(creator, unix.SIGKILL)
		_, _ = unix.Wait4(creator, nil, 0, nil)
	}
	return err
}

// handOver makes init the unit's main process. init is a child of PID 1 by
// now, as the creator is gone: for a main process that were ours, systemd would
// not wait at stop but kill it at once.
//
// It returns what tells when systemd has done so. The payload must not run
// before: systemd does not accept a main process that has exited already, and
// would take the launcher's exit status for the unit's.
func (l Launcher) handOver(run runDir, init *initProcess) (adopted barrier, err error) {
	if err := init.checkOrphan(); err != nil {
		return adopted, err
	}
	if err := run.writePID(init.pid); err != nil {
		return adopted, fmt.Errorf("write PID file: %w", err)
	}
	systemd := manager{l.Notify}
	if err := systemd.send(init.mainPID()); err != nil {
		return adopted, err
	}
	if adopted, err = systemd.barrier(init.pid); err != nil && init.gone() {
		err = errGone
	}
	return adopted, err
}

// waitReady reports readiness to systemd in init's name and returns. If init
// exits first there is nothing to report: systemd has its exit status already.
func (l Launcher) waitReady(run runDir, d *deployment, init *initProcess, inside *relay) error {
	systemd := manager{l.Notify}
	switch d.rec.Atomic.Start.Notify {
	case notifyRaw:
		return nil
	case notifyLauncher:
		if init.waitExec() {
			return init.ignoreGone(systemd.sendAs(init.pid, "READY=1"))
		}
		return nil
	}
	for {
		fds := []unix.PollFd{
			{Fd: int32(inside.fd), Events: unix.POLLIN},
			{Fd: int32(init.fd), Events: unix.POLLIN},
		}
		if err := poll(fds, -1); err != nil {
			return fmt.Errorf("wait for readiness: %w", err)
		}
		if fds[0].Revents&unix.POLLIN != 0 {
			text, err := inside.receive()
			if err != nil {
				return err
			}
			if text != "" {
				if err := systemd.sendAs(init.pid, text); err != nil {
					return init.ignoreGone(err)
				}
			}
			if ready(text) {
				return l.handOverNotify(run, d, init, inside)
			}
			continue
		}
		if fds[1].Revents != 0 {
			return nil
		}
	}
}

// handOverNotify is the end of a relay. What the payload says from now on
// reaches systemd without the launcher, if the unit wants to hear it.
func (l Launcher) handOverNotify(run runDir, d *deployment, init *initProcess, inside *relay) error {
	if !inside.late {
		return nil
	}
	left, err := inside.useLate(run, l.Host.Notify(d.name))
	if err != nil {
		return fmt.Errorf("open the way of later notifications: %w", err)
	}
	for _, text := range left {
		if err := (manager{l.Notify}).sendAs(init.pid, text); err != nil {
			return init.ignoreGone(err)
		}
	}
	return nil
}
