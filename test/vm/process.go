// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a child that dies with this program, however that ends.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been waited for
	err  error         // how it ended; read after done
}

// startProcess starts cmd. The kernel ties the parent-death signal to the
// thread that started the child, so one thread is kept for as long as it lives.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process at once and waits for it. It may have ended before.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// socketPair returns two connected stream sockets: ours, which the runtime
// polls, and one for a child.
func socketPair() (ours, childs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	childs = os.NewFile(uintptr(fds[1]), "child")
	if err := unix.SetNonblock(fds[0], true); err != nil {
		os.NewFile(uintptr(fds[0]), "ours").Close()
		childs.Close()
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "ours"), childs, nil
}

// exitError gives a process that ended as it should an error nevertheless.
func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
