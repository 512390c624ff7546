// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// barrier tells when systemd has acted on everything that it was sent before. It
// is the socket of a notification that means nothing: systemd reads one after the
// other, so when it has read this one it is done with those before.
//
// BARRIER=1 is what sd_notify(3) has for the purpose. It comes with a descriptor
// for systemd to close, and systemd forks to close what it was sent: more work
// than anything else that a start asks of it (docs/decisions/start-speed.md).
type barrier struct{ fd int }

// barrierText is long enough for the smallest send buffer to be full.
var barrierText = "X_BARRIER=" + strings.Repeat("-", 1024)

// barrier sends one in the name of pid, the unit's main process by now: of
// anybody else systemd would complain.
func (m manager) barrier(pid int) (barrier, error) {
	fd, err := m.socket()
	if err != nil {
		return barrier{}, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1)
	if err == nil {
		err = m.sendOn(fd, barrierText, credentials(pid))
	}
	if err != nil {
		_ = unix.Close(fd)
		return barrier{}, err
	}
	return barrier{fd}, nil
}

func (b barrier) close() { _ = unix.Close(b.fd) }

// passed reports whether nothing is left of what was sent.
func (b barrier) passed() bool {
	left, err := unix.IoctlGetInt(b.fd, unix.SIOCOUTQ)
	return err == nil && left == 0
}

// adoptWait bounds how long a busy systemd is waited for.
const adoptWait = 10 * time.Second

// await waits until systemd has passed the barrier, and closes it.
func (p *initProcess) await(b barrier) error {
	defer b.close()
	fds := []unix.PollFd{{Fd: int32(b.fd), Events: unix.POLLOUT}, {Fd: int32(p.fd), Events: unix.POLLIN}}
	deadline := time.Now().Add(adoptWait)
	for wait := adoptWait; time.Now().Before(deadline); wait = time.Millisecond {
		if err := poll(fds, wait); err != nil {
			return fmt.Errorf("wait for systemd: %w", err)
		}
		if fds[1].Revents != 0 {
			return errGone
		}
		if b.passed() {
			break
		}
		fds[0].Events = 0 // there is room for more, so that says nothing here
	}
	return nil
}
