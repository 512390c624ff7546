// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/record"
)

// linger is how long Forward waits for more before it exits: a payload that
// reports often does not start it each time.
const linger = 200 * time.Millisecond

// Forward passes on what a running container tells systemd. It is what
// atomic-notify@.service runs when something arrives at the socket of
// atomic-notify@NAME.socket; it exits when nothing more does.
//
// systemd believes uid 0 whatever it says, so the payload does not have
// systemd's own socket: what can only concern the payload itself is sent on in
// the name of the unit's main process, and the rest is dropped.
func (l Launcher) Forward(name string, socket int) error {
	if err := record.CheckName(name); err != nil {
		return err
	}
	from := &relay{fd: socket, late: true}
	systemd := manager{l.Notify}
	for {
		fds := []unix.PollFd{{Fd: int32(socket), Events: unix.POLLIN}}
		if err := poll(fds, linger); err != nil {
			return fmt.Errorf("wait for notifications: %w", err)
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			return nil
		}
		// The container may have been restarted since the last one.
		pid, unit, err := mainProcess(runOf(l.Host, name), name+".service")
		if err != nil {
			l.Log.Debug("nobody to speak for", "reason", err)
		}
		from.unit = unit
		text, err := from.receive()
		if err != nil {
			return err
		}
		if text == "" || pid == 0 {
			continue
		}
		if err := systemd.sendAs(pid, text); err != nil {
			l.Log.Debug("cannot pass on a notification, ignoring", "error", err)
		}
	}
}

// mainProcess is the init of a running container and its cgroup. A PID that is
// not in the unit belongs to somebody else by now.
func mainProcess(run runDir, unit string) (pid int, cgroup string, err error) {
	data, err := os.ReadFile(run.pid())
	if err != nil {
		return 0, "", err
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(data))); err != nil || pid <= 1 {
		return 0, "", fmt.Errorf("%s names no process", run.pid())
	}
	if cgroup, err = ownCgroup(pid); err != nil {
		return 0, "", err
	}
	if filepath.Base(cgroup) != unit {
		return 0, "", fmt.Errorf("process %d is not in %s", pid, unit)
	}
	return pid, cgroup, nil
}

// useLate gives the payload the socket behind which atomic-notify@.service
// waits, under the name of the launcher's own: from then on nobody of ours has
// to run. No message is lost, as each finds one socket or the other. What the
// launcher's own one still holds is returned.
func (r *relay) useLate(run runDir, late string) (left []string, err error) {
	tmp := run.newRelay()
	if err := remove(tmp); err != nil {
		return nil, err
	}
	if err := os.Link(late, tmp); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, run.relay()); err != nil {
		return nil, err
	}
	for {
		fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
		if err := poll(fds, 0); err != nil || fds[0].Revents&unix.POLLIN == 0 {
			return left, err
		}
		text, err := r.receive()
		if err != nil {
			return left, err
		}
		if text != "" {
			left = append(left, text)
		}
	}
}

// linkRaw puts systemd's own socket where the payload looks for one.
func linkRaw(run runDir, addr string) error {
	if !filepath.IsAbs(addr) {
		return fmt.Errorf("pass on the notification socket: %q is not a file", addr)
	}
	if err := remove(run.relay()); err != nil {
		return fmt.Errorf("pass on the notification socket: %w", err)
	}
	if err := os.Link(addr, run.relay()); err != nil {
		return fmt.Errorf("pass on the notification socket: %w", err)
	}
	return nil
}
