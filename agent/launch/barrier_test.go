// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBarrier is about when a barrier is passed: not before everything that was
// sent earlier has been read, and that without looking again and again.
func TestBarrier(t *testing.T) {
	r, systemd := testRelay(t, "/")
	if err := systemd.send("MAINPID=1"); err != nil {
		t.Fatal(err)
	}
	b, err := systemd.barrier(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	room := func() bool {
		fds := []unix.PollFd{{Fd: int32(b.fd), Events: unix.POLLOUT}}
		return poll(fds, 0) == nil && fds[0].Revents != 0
	}
	for _, text := range []string{"MAINPID=1", barrierText} {
		if b.passed() || room() {
			t.Fatalf("passed before %.9s was read", text)
		}
		buf := make([]byte, maxNotify)
		n, err := unix.Read(r.fd, buf)
		if err != nil || string(buf[:n]) != text {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
	}
	if !b.passed() || !room() {
		t.Error("not passed after all was read")
	}
	p, end := child(t)
	defer end()
	if err := p.await(b); err != nil {
		t.Error(err)
	}
}

func TestBarrierOfTheDead(t *testing.T) {
	_, systemd := testRelay(t, "/")
	b, err := systemd.barrier(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p, end := child(t)
	p.kill()
	end()
	if err := p.await(b); err == nil {
		t.Error("an init that is dead was waited for")
	}
	if _, err := systemd.barrier(p.pid); err == nil {
		t.Error("spoke for a process that is gone")
	}
}

// Outside a unit nobody has to act.
func TestNoBarrier(t *testing.T) {
	b, err := manager{}.barrier(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p, end := child(t)
	defer end()
	if err := p.await(b); err != nil {
		t.Error(err)
	}
}
