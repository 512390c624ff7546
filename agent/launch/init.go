// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// hello is what the creator tells the launcher with the pidfd of init.
type hello struct {
	PID    int    `json:"pid"`
	Digest string `json:"digest"`
}

// ExitError is a start that failed. Somebody has said why on stderr.
type ExitError struct{ Code int }

func (e *ExitError) Error() string {
	return fmt.Sprintf("the container was not created (status %d)", e.Code)
}

// initProcess is the container's init in the launcher. The pidfd makes every
// method safe against reuse of the PID.
type initProcess struct {
	pid    int
	fd     int // pidfd
	digest string
	exe    [2]uint64 // what it ran before its release
}

// sendInit hands init over from the creator to the launcher.
func sendInit(twin *os.File, pid int, digest string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open init: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	msg, err := json.Marshal(hello{pid, digest})
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(int(twin.Fd()), msg, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("hand over init: %w", err)
	}
	return nil
}

// receiveInit waits until the creator has made the container and is gone.
func receiveInit(twin *os.File, creator int) (*initProcess, error) {
	defer runtime.KeepAlive(twin)
	buf, oob := make([]byte, 512), make([]byte, 64)
	n, oobn, _, _, err := recvmsg(int(twin.Fd()), buf, oob)
	if err != nil {
		return nil, fmt.Errorf("wait for the container: %w", err)
	}
	var status unix.WaitStatus
	if _, err := wait4(creator, &status); err != nil {
		return nil, fmt.Errorf("wait for the creator: %w", err)
	}
	_, fds := control(oob[:oobn])
	p := &initProcess{fd: -1}
	if len(fds) == 1 {
		p.fd = fds[0]
	}
	var h hello
	switch {
	case status.Signaled():
		p.kill()
		return nil, fmt.Errorf("the creator of the container died of signal %d (%s)", status.Signal(), status.Signal())
	case n == 0 || status.ExitStatus() != 0:
		p.kill()
		return nil, &ExitError{max(status.ExitStatus(), 1)}
	case p.fd < 0 || json.Unmarshal(buf[:n], &h) != nil || h.PID <= 1:
		p.kill()
		return nil, errors.New("wait for the container: the creator's message is damaged")
	}
	p.pid, p.digest = h.PID, h.Digest
	if p.exe, err = p.executable(); err != nil {
		p.kill()
		return nil, fmt.Errorf("examine init: %w", err)
	}
	return p, nil
}

func (p *initProcess) close() { _ = unix.Close(p.fd) }

// kill ends a container that must not run. It may be called on nil.
func (p *initProcess) kill() {
	if p != nil && p.fd >= 0 {
		_ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0)
	}
}

// gone reports whether init has exited.
func (p *initProcess) gone() bool {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	return poll(fds, 0) == nil && fds[0].Revents != 0
}

// ignoreGone drops an error that only says that init has exited meanwhile.
func (p *initProcess) ignoreGone(err error) error {
	if err != nil && p.gone() {
		return nil
	}
	return err
}

var errGone = errors.New("the container's init is gone before it was released")

// checkOrphan fails unless init has been adopted by the launcher's own parent,
// the service manager.
func (p *initProcess) checkOrphan() error {
	stat, err := readProc(p.pid)
	if err != nil || p.gone() {
		return errGone
	}
	if stat.ppid == os.Getpid() {
		return errors.New("the container's init is still the launcher's child")
	}
	return nil
}

// mainPID is the notification that makes init the main process. systemd 257
// and later check the pidfd's inode against reuse of the PID; earlier ones
// ignore what they do not know.
func (p *initProcess) mainPID() string {
	text := "MAINPID=" + strconv.Itoa(p.pid)
	var st unix.Stat_t
	if unix.Fstat(p.fd, &st) == nil {
		text += "\nMAINPIDFDID=" + strconv.FormatUint(st.Ino, 10)
	}
	return text
}

// release lets init execute the payload: init waits until somebody reads from
// its FIFO. Waiting for the answer on the pidfd as well notices an init that
// died meanwhile.
func (p *initProcess) release(fifo string) error {
	f, err := os.OpenFile(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(p.fd), Events: unix.POLLIN}}
	if err := poll(fds, -1); err != nil {
		return err
	}
	buf := make([]byte, 1)
	if _, err := unix.Read(int(f.Fd()), buf); fds[0].Revents&unix.POLLIN == 0 || err != nil {
		return errors.New("the container's init is gone")
	}
	return os.Remove(fifo)
}

// execWait bounds how long waitExec looks. Hooks that run before the payload
// may take longer; then readiness is reported a little early.
const execWait = 2 * time.Second

// waitExec waits until init, after its release, has executed the payload and
// reports whether it lives. The kernel has no event for it, but it is a matter
// of microseconds: init stops being a copy of this very program.
func (p *initProcess) waitExec() bool {
	deadline := time.Now().Add(execWait)
	for pause := 50 * time.Microsecond; time.Now().Before(deadline); pause = min(2*pause, 5*time.Millisecond) {
		if exe, err := p.executable(); err == nil && exe != p.exe {
			break
		}
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		if poll(fds, pause) == nil && fds[0].Revents != 0 {
			return false
		}
	}
	return !p.gone()
}

// executable identifies the program that init runs.
func (p *initProcess) executable() ([2]uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/"+strconv.Itoa(p.pid)+"/exe", &st)
	return [2]uint64{st.Dev, st.Ino}, err
}

func recvmsg(fd int, buf, oob []byte) (n, oobn, flags int, from unix.Sockaddr, err error) {
	for {
		n, oobn, flags, from, err = unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func wait4(pid int, status *unix.WaitStatus) (int, error) {
	for {
		got, err := unix.Wait4(pid, status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return got, err
		}
	}
}

// poll waits for any of fds; a negative timeout means for ever.
func poll(fds []unix.PollFd, timeout time.Duration) error {
	for {
		var ts *unix.Timespec
		if timeout >= 0 {
			t := unix.NsecToTimespec(timeout.Nanoseconds())
			ts = &t
		}
		_, err := unix.Ppoll(fds, ts, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
