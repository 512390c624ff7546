// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// maxNotify is more than any honest notification needs; systemd reads 4 KiB.
const maxNotify = 4096

// manager is systemd's notification socket as the launcher sees it.
type manager struct {
	addr string // NOTIFY_SOCKET; empty when nobody listens
}

// send tells systemd something in the launcher's own name.
func (m manager) send(text string) error { return m.sendmsg(text, nil) }

// sendAs speaks in the name of another process, which the kernel lets root do:
// after MAINPID= the launcher itself is nobody to a unit with NotifyAccess=main.
func (m manager) sendAs(pid int, text string) error { return m.sendmsg(text, credentials(pid)) }

func credentials(pid int) []byte {
	return unix.UnixCredentials(&unix.Ucred{Pid: int32(pid), Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})
}

func (m manager) sendmsg(text string, oob []byte) error {
	fd, err := m.socket()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return m.sendOn(fd, text, oob)
}

func (m manager) socket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("notify systemd: %w", err)
	}
	return fd, nil
}

func (m manager) sendOn(fd int, text string, oob []byte) error {
	if m.addr == "" {
		return nil
	}
	addr := m.addr
	if addr[0] == '@' {
		addr = "\x00" + addr[1:]
	}
	if err := unix.Sendmsg(fd, []byte(text), oob, &unix.SockaddrUnix{Name: addr}, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// relay is the private notification socket of one container. It lives in a
// directory that only root and the container see.
type relay struct {
	fd   int
	unit string // cgroup of the unit
	late bool   // pass on what may be said after READY=1 as well
}

// listenRelay opens the socket for everyone in the container.
func listenRelay(path, unit string) (*relay, error) {
	if err := remove(path); err != nil {
		return nil, fmt.Errorf("open notification socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open notification socket: %w", err)
	}
	r := &relay{fd: fd, unit: unit}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		r.close()
		return nil, fmt.Errorf("open notification socket %q: %w", path, err)
	}
	if err := errors.Join(os.Chmod(path, 0o666), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)); err != nil {
		r.close()
		return nil, fmt.Errorf("open notification socket: %w", err)
	}
	return r, nil
}

// close may be called on nil.
func (r *relay) close() {
	if r != nil && r.fd >= 0 {
		_ = unix.Close(r.fd)
		r.fd = -1
	}
}

// receive returns what of the next datagram may be passed on, or "". It fails
// only if the socket does.
func (r *relay) receive() (string, error) {
	buf := make([]byte, maxNotify+1)
	oob := make([]byte, 1024)
	n, oobn, _, _, err := unix.Recvmsg(r.fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read notification: %w", err)
	}
	sender, fds := control(oob[:oobn])
	// Closing is the answer that a sender of BARRIER=1 waits for; other
	// descriptors (FDSTORE=1) have no business here.
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	if n > maxNotify || r.unit == "" || !r.mine(sender) {
		return "", nil
	}
	return filter(string(buf[:n]), r.late), nil
}

// mine reports whether the sender is in the unit's cgroup. A sender that has
// exited already cannot be asked; only the container can reach the socket.
func (r *relay) mine(pid int) bool {
	if pid <= 0 {
		return false
	}
	path, err := ownCgroup(pid)
	return err != nil && errors.Is(err, fs.ErrNotExist) || err == nil && inCgroup(r.unit, path)
}

// control takes the sender's PID and the descriptors out of a control message.
func control(oob []byte) (pid int, fds []int) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, nil
	}
	for i := range msgs {
		if got, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, got...)
		} else if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			pid = int(cred.Pid)
		}
	}
	return pid, fds
}

// filter keeps the assignments that say something about the sender alone.
// MAINPID=, FDSTORE=, NOTIFYACCESS= and the like would give a container power
// over other processes of the host and are dropped, as is everything unknown.
// What means nothing before a container is ready passes only late.
func filter(datagram string, late bool) string {
	if !utf8.ValidString(datagram) || strings.ContainsRune(datagram, 0) {
		return ""
	}
	var keep []string
	for line := range strings.SplitSeq(datagram, "\n") {
		name, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
		case name == "READY" && value == "1",
			name == "STATUS",
			name == "EXTEND_TIMEOUT_USEC" && isNumber(value),
			late && (name == "RELOADING" || name == "STOPPING") && value == "1",
			late && name == "WATCHDOG" && (value == "1" || value == "trigger"),
			late && (name == "MONOTONIC_USEC" || name == "ERRNO") && isNumber(value):
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "\n")
}

// ready reports whether a filtered datagram says READY=1.
func ready(filtered string) bool {
	for line := range strings.SplitSeq(filtered, "\n") {
		if line == "READY=1" {
			return true
		}
	}
	return false
}

func isNumber(s string) bool {
	return s != "" && len(s) < 20 && strings.Trim(s, "0123456789") == ""
}
