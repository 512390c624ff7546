// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// buildEnter builds the program that init executes.
func buildEnter(t *testing.T) string {
	t.Helper()
	makefile, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", makefile, "BIN="+bin, bin+"/atomic-enter")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build atomic-enter: %v\n%s", err, out)
	}
	return bin + "/atomic-enter"
}

// startEnter runs it as a child of the test, in the test's own namespaces.
func startEnter(t *testing.T, enter string) (*Init, *exec.Cmd, *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	cmd := exec.CommandContext(t.Context(), enter, "3")
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{theirs}, w, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirs.Close(), w.Close()
	i := &Init{PID: cmd.Process.Pid, socket: pair[0]}
	t.Cleanup(i.Abandon)
	return i, cmd, r
}

func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func TestCalls(t *testing.T) {
	enter := buildEnter(t)

	t.Run("execute", func(t *testing.T) {
		i, cmd, out := startEnter(t, enter)
		var c calls
		c.add("close the socket", unix.SYS_FCNTL, uintptr(i.own()), unix.F_SETFD, unix.FD_CLOEXEC)
		c.add("leave", unix.SYS_CHDIR, c.text("/proc"))
		c.add("miss", unix.SYS_CHDIR, c.text("/none")).ignore = int(unix.ENOENT)
		c.add("miss", unix.SYS_CHDIR, c.text("/none")).ignore = anyErrno
		if err := i.do(&c); err != nil {
			t.Fatal(err)
		}
		i.exec = i.execute("/bin/sh", []string{"A=b c", "PATH=" + os.Getenv("PATH")}, &plan.Plan{
			Args: []string{"sh", "-c", `pwd; echo "$A"; ls /proc/self/fd | wc -l; exit 3`},
		})
		if err := i.Release(); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 100)
		n := 0
		for {
			m, err := out.Read(text[n:])
			if n += m; err != nil {
				break
			}
		}
		if got := strings.Join(strings.Fields(string(text[:n])), " "); got != "/proc b c 4" {
			t.Errorf("the payload says %q", got)
		}
		if code := exitCode(t, cmd); code != 3 {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("fail", func(t *testing.T) {
		i, cmd, _ := startEnter(t, enter)
		var c calls
		c.add("first", unix.SYS_GETPID)
		c.add("second", unix.SYS_CHDIR, c.text("/none"))
		c.add("third", unix.SYS_EXIT_GROUP, 7)
		if err := i.do(&c); !errors.Is(err, syscall.ENOENT) || !strings.HasPrefix(err.Error(), "second: ") {
			t.Errorf("got %v", err)
		}
		// It waits until the launcher has reported the error.
		i.exec = &calls{}
		i.exec.add("execute /none", unix.SYS_EXECVE, i.exec.text("/none"), i.exec.texts(nil), i.exec.texts(nil))
		if err := i.Release(); err == nil || err.Error() != "execute /none: no such file or directory" {
			t.Errorf("got %v", err)
		}
		i.Abandon()
		if code := exitCode(t, cmd); code != exitExec {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("descriptors", func(t *testing.T) {
		i, _, _ := startEnter(t, enter)
		zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(zero) }()
		var c calls
		c.add("flags", unix.SYS_FCNTL, uintptr(i.own()+1), unix.F_SETFD, 0)
		c.add("open", unix.SYS_OPENAT, 1<<64-100, c.text("/dev/null"), unix.O_RDONLY)
		if err := i.do(&c, zero); err != nil {
			t.Fatal(err)
		}
		give := i.giveBack(2)
		if err := i.begin(give, exitSetup); err != nil {
			t.Fatal(err)
		}
		_, fds, err := i.receive(make([]byte, 1))
		if err != nil || len(fds) != 2 {
			t.Fatalf("got %d descriptors, %v", len(fds), err)
		}
		for k, want := range []uint64{unix.Mkdev(1, 5), unix.Mkdev(1, 3)} {
			var st unix.Stat_t
			if err := unix.Fstat(fds[k], &st); err != nil || st.Rdev != want {
				t.Errorf("descriptor %d is device %d, %v", k, st.Rdev, err)
			}
			_ = unix.Close(fds[k])
		}
		if err := i.finish(give); err != nil {
			t.Error(err)
		}
	})

	t.Run("abandon", func(t *testing.T) {
		i, cmd, _ := startEnter(t, enter)
		i.Abandon()
		if code := exitCode(t, cmd); code != exitSetup {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("killed", func(t *testing.T) {
		i, cmd, _ := startEnter(t, enter)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		var c calls
		c.add("getpid", unix.SYS_GETPID)
		if err := i.do(&c); !errors.Is(err, errGone) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTooLarge(t *testing.T) {
	var c calls
	c.memory(make([]byte, room))
	c.add("getpid", unix.SYS_GETPID)
	if _, err := c.message(exitSetup); err == nil {
		t.Error("a list that does not fit was sent")
	}
}
