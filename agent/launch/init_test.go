// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// child starts a process that waits until its stdin ends.
func child(t *testing.T) (*initProcess, func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() { // a second Wait beside the first may never return
		_ = in.Close()
		_ = cmd.Wait()
	})
	p := &initProcess{pid: cmd.Process.Pid, fd: fd}
	t.Cleanup(func() { p.kill(); end(); p.close() })
	return p, end
}

func TestGone(t *testing.T) {
	p, end := child(t)
	if p.gone() {
		t.Fatal("gone while it runs")
	}
	end()
	if !p.gone() {
		t.Fatal("there after its end")
	}
	if err := p.ignoreGone(os.ErrClosed); err != nil {
		t.Errorf("an error about a dead init is kept: %v", err)
	}
}

func TestCheckOrphan(t *testing.T) {
	p, end := child(t)
	if err := p.checkOrphan(); err == nil || !strings.Contains(err.Error(), "still") {
		t.Errorf("our child passed: %v", err)
	}
	end()
	if err := p.checkOrphan(); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a dead init passed: %v", err)
	}
}

func TestMainPID(t *testing.T) {
	p, _ := child(t)
	got := p.mainPID()
	if !strings.HasPrefix(got, "MAINPID="+strconv.Itoa(p.pid)+"\nMAINPIDFDID=") {
		t.Errorf("got %q", got)
	}
}

func TestRelease(t *testing.T) {
	p, end := child(t)
	fifo := filepath.Join(t.TempDir(), "exec.fifo")
	mkfifo := func() {
		t.Helper()
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mkfifo()
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(fifo, []byte("0"), 0) }()
	if err := p.release(fifo); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(fifo); !os.IsNotExist(err) {
		t.Error("the FIFO is still there")
	}
	mkfifo()
	end()
	if err := p.release(fifo); err == nil {
		t.Error("released a dead init")
	}
}

func TestWaitExec(t *testing.T) {
	p, end := child(t)
	p.exe = [2]uint64{1, 1}
	if !p.waitExec() {
		t.Error("a process that runs something else is not seen")
	}
	var err error
	if p.exe, err = p.executable(); err != nil {
		t.Fatal(err)
	}
	go end()
	if p.waitExec() {
		t.Error("a process that never executed anything else is ready")
	}
}

func TestParseStat(t *testing.T) {
	const rest = " 12 12 0 -1 4194304 98 0 0 0 0 0 0 0 20 0 1 0 8055 5943296 399"
	for stat, want := range map[string]procStat{
		"12 (cat) S 7" + rest:            {'S', 7, 8055},
		"12 (a) b) R 9" + rest:           {'R', 9, 8055},
		"12 (x) 3 (y) Z 1" + rest:        {'Z', 1, 8055},
		"12 (evil) S 1) S 44" + rest:     {'S', 44, 8055},
		"12 (cat) S 7 12 12":             {},
		"12 (cat) S seven" + rest:        {},
		"12 (cat) S 7 1 1 0 -1 evil 3 4": {},
		"":                               {},
		"garbage":                        {},
	} {
		got, err := parseStat(stat)
		if bad := want == (procStat{}); bad != (err != nil) || !bad && got != want {
			t.Errorf("parseStat(%q) = %+v, %v, want %+v", stat, got, err, want)
		}
	}
}

func TestSendInit(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	creator := func(script string) int {
		t.Helper()
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	p, _ := child(t)
	if err := sendInit(theirs, p.pid, "digest"); err != nil {
		t.Fatal(err)
	}
	got, err := receiveInit(ours, creator("exit 0"))
	if err != nil {
		t.Fatal(err)
	}
	got.close()
	if got.pid != p.pid || got.digest != "digest" || got.exe == [2]uint64{} {
		t.Errorf("got %+v", got)
	}

	// A creator that fails after it made init must not leave it running.
	if err := sendInit(theirs, p.pid, "digest"); err != nil {
		t.Fatal(err)
	}
	if _, err := receiveInit(ours, creator("exit 3")); err == nil {
		t.Error("no error from a creator that failed")
	}
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	if err := poll(fds, -1); err != nil || !p.gone() {
		t.Error("init outlived its creator's failure")
	}

	theirs.Close()
	if _, err := receiveInit(ours, creator("kill -9 $$")); err == nil || !strings.Contains(err.Error(), "signal 9") {
		t.Errorf("killed creator: %v", err)
	}
}
