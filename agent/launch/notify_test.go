// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func TestFilter(t *testing.T) {
	for name, tt := range map[string]struct {
		in, want string
		ready    bool
	}{
		"ready":             {"READY=1", "READY=1", true},
		"ready and status":  {"READY=1\nSTATUS=Serving", "READY=1\nSTATUS=Serving", true},
		"new line at end":   {"READY=1\n", "READY=1", true},
		"not ready":         {"READY=0", "", false},
		"ready is a word":   {"READY=11", "", false},
		"main process":      {"MAINPID=1\nREADY=1", "READY=1", true},
		"pidfd of another":  {"MAINPIDFDID=5\nMAINPIDFD=1", "", false},
		"file descriptors":  {"FDSTORE=1\nFDNAME=x\nFDSTOREREMOVE=1", "", false},
		"notify access":     {"NOTIFYACCESS=all", "", false},
		"watchdog":          {"WATCHDOG=trigger\nWATCHDOG_USEC=1", "", false},
		"restart":           {"RESTART_RESET=1", "", false},
		"bus error":         {"BUSERROR=org.x", "", false},
		"barrier":           {"BARRIER=1", "", false},
		"more time":         {"EXTEND_TIMEOUT_USEC=5000000", "EXTEND_TIMEOUT_USEC=5000000", false},
		"more time, a lie":  {"EXTEND_TIMEOUT_USEC=infinity", "", false},
		"status with equal": {"STATUS=a=b", "STATUS=a=b", false},
		"hidden in status":  {"STATUS=x\rMAINPID=1", "STATUS=x\rMAINPID=1", false},
		"zero byte":         {"STATUS=x\x00\nREADY=1", "", false},
		"not UTF-8":         {"STATUS=\xff\nREADY=1", "", false},
		"space":             {" READY=1", "", false},
		"lower case":        {"ready=1", "", false},
		"empty":             {"", "", false},
		"no assignment":     {"READY", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := filter(tt.in, false)
			if got != tt.want || ready(got) != tt.ready {
				t.Errorf("got %q, ready %t", got, ready(got))
			}
		})
	}
}

func TestFilterLate(t *testing.T) {
	for in, want := range map[string]string{
		"RELOADING=1\nMONOTONIC_USEC=12":    "RELOADING=1\nMONOTONIC_USEC=12",
		"RELOADING=0":                       "",
		"MONOTONIC_USEC=x":                  "",
		"STOPPING=1\nSTATUS=Bye":            "STOPPING=1\nSTATUS=Bye",
		"WATCHDOG=1":                        "WATCHDOG=1",
		"WATCHDOG=trigger":                  "WATCHDOG=trigger",
		"WATCHDOG=2":                        "",
		"WATCHDOG_USEC=0":                   "",
		"ERRNO=2":                           "ERRNO=2",
		"READY=1":                           "READY=1",
		"MAINPID=1\nWATCHDOG=1":             "WATCHDOG=1",
		"FDSTORE=1\nFDNAME=x":               "",
		"NOTIFYACCESS=all\nRESTART_RESET=1": "",
	} {
		if got := filter(in, true); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	passes := strings.Fields("READY STATUS EXTEND_TIMEOUT_USEC RELOADING STOPPING WATCHDOG MONOTONIC_USEC ERRNO")
	for _, s := range []string{"READY=1\nSTATUS=x", "WATCHDOG=1\nRELOADING=1", "MAINPID=1", "STATUS=\nMAINPID=1", "EXTEND_TIMEOUT_USEC=1\n\nREADY=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := filter(in, true)
		if !utf8.ValidString(out) || strings.ContainsRune(out, 0) || filter(out, true) != out {
			t.Fatalf("%q became %q", in, out)
		}
		for line := range strings.SplitSeq(out, "\n") {
			name, _, _ := strings.Cut(line, "=")
			if out != "" && !slices.Contains(passes, name) {
				t.Fatalf("%q passed as %q", in, out)
			}
			if out != "" && !strings.Contains("\n"+in+"\n", "\n"+line+"\n") {
				t.Fatalf("%q is not a line of %q", line, in)
			}
		}
	})
}

func testRelay(t *testing.T, unit string) (*relay, manager) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	r, err := listenRelay(path, unit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r, manager{path}
}

func TestRelay(t *testing.T) {
	unit, err := ownCgroup(0)
	if err != nil {
		t.Skip(err)
	}
	r, payload := testRelay(t, unit)
	if text, err := r.receive(); text != "" || err != nil {
		t.Fatalf("nothing sent, got %q, %v", text, err)
	}
	send := func(text string) {
		t.Helper()
		if err := payload.send(text); err != nil {
			t.Fatal(err)
		}
	}
	send("MAINPID=1\nREADY=1")
	if text, err := r.receive(); text != "READY=1" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
	send("STATUS=" + strings.Repeat("x", maxNotify) + "\nREADY=1")
	if text, err := r.receive(); text != "" || err != nil {
		t.Errorf("oversized: got %d bytes, %v", len(text), err)
	}
	// A second launcher takes the name over from a dead one.
	if again, err := listenRelay(payload.addr, unit); err != nil {
		t.Error(err)
	} else {
		again.close()
	}
}

func TestRelayIgnoresOthers(t *testing.T) {
	r, foreigner := testRelay(t, "/sys/fs/cgroup/system.slice/none.service")
	if err := foreigner.send("READY=1"); err != nil {
		t.Fatal(err)
	}
	if text, err := r.receive(); text != "" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}

// A sender of BARRIER=1 waits until its descriptor is closed.
func TestRelayClosesDescriptors(t *testing.T) {
	r, payload := testRelay(t, "/")
	done, sent, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer done.Close()
	err = payload.sendmsg("BARRIER=1", unix.UnixRights(int(sent.Fd())))
	sent.Close()
	if err != nil {
		t.Fatal(err)
	}
	hungUp := func() bool {
		fds := []unix.PollFd{{Fd: int32(done.Fd())}}
		return poll(fds, 0) == nil && fds[0].Revents&unix.POLLHUP != 0
	}
	if hungUp() {
		t.Fatal("hung up before anybody read")
	}
	if _, err := r.receive(); err != nil {
		t.Fatal(err)
	}
	if !hungUp() {
		t.Error("the descriptor is still open")
	}
}

func TestSendAs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root speaks for other processes")
	}
	r, payload := testRelay(t, "/")
	if err := payload.sendAs(1, "READY=1"); err != nil {
		t.Fatal(err)
	}
	buf, oob := make([]byte, 64), make([]byte, 64)
	_, oobn, _, _, err := unix.Recvmsg(r.fd, buf, oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	if pid, _ := control(oob[:oobn]); pid != 1 {
		t.Errorf("sent by %d, want 1", pid)
	}
}

func TestNobodyToNotify(t *testing.T) {
	if err := (manager{}).send("READY=1"); err != nil {
		t.Error(err)
	}
	if err := (manager{filepath.Join(t.TempDir(), "none")}).send("READY=1"); err == nil {
		t.Error("sent to a socket that does not exist")
	}
}

// The late socket takes the launcher's place without a moment in which there is
// none, and what the launcher's own still held is not lost.
func TestUseLate(t *testing.T) {
	unit, err := ownCgroup(0)
	if err != nil {
		t.Skip(err)
	}
	run := runDir(t.TempDir())
	if err := run.prepare(); err != nil {
		t.Fatal(err)
	}
	early, err := listenRelay(run.relay(), unit)
	if err != nil {
		t.Fatal(err)
	}
	defer early.close()
	early.late = true
	path := filepath.Join(t.TempDir(), "late")
	late, err := listenRelay(path, unit)
	if err != nil {
		t.Fatal(err)
	}
	defer late.close()
	late.late = true
	payload := manager{run.relay()}
	for _, text := range []string{"WATCHDOG=1", "MAINPID=1", "STATUS=a"} {
		if err := payload.send(text); err != nil {
			t.Fatal(err)
		}
	}
	left, err := early.useLate(run, path)
	if err != nil || !slices.Equal(left, []string{"WATCHDOG=1", "STATUS=a"}) {
		t.Errorf("left %q, %v", left, err)
	}
	early.close()
	if err := payload.send("STOPPING=1"); err != nil {
		t.Fatal(err)
	}
	if text, err := late.receive(); text != "STOPPING=1" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}
