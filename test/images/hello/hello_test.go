// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain makes the test binary the server when asked to.
func TestMain(m *testing.M) {
	if os.Getenv("HELLO_TEST_SERVE") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a server under test.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *bufio.Scanner
	notify *net.UnixConn
}

func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0], args...), notify: conn}
	p.cmd.Env = append([]string{"HELLO_TEST_SERVE=1", "NOTIFY_SOCKET=" + socket}, env...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// line reads stdout up to a line that contains want, and returns it.
func (p *process) line(want string) string {
	p.t.Helper()
	for p.out.Scan() {
		if strings.Contains(p.out.Text(), want) {
			return p.out.Text()
		}
	}
	p.t.Fatalf("stdout ended without %q", want)
	return ""
}

// told reads the next notification.
func (p *process) told(want string) {
	p.t.Helper()
	buf := make([]byte, 4096)
	n, err := p.notify.Read(buf)
	if err != nil {
		p.t.Fatal(err)
	}
	if !strings.HasPrefix(string(buf[:n]), want) {
		p.t.Fatalf("notified %q, want %q", buf[:n], want)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end and checks the exit code.
func (p *process) ends(want int) {
	p.t.Helper()
	for p.out.Scan() {
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		p.t.Errorf("exit code %d, want %d", got, want)
	}
}

func (p *process) get(url string) string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

func TestServe(t *testing.T) {
	p := start(t, []string{"HELLO_FLAGS=-notify=STATUS=second -ignore=USR2"}, "-listen=127.0.0.1:0")
	url := "http://" + strings.Fields(p.line("listening on"))[3]
	p.told("READY=1")
	p.told("STATUS=second")
	p.line("ready, pid")

	if got := p.get(url + "/"); !strings.HasPrefix(got, "hello from ") {
		t.Errorf("said %q", got)
	}
	if got := p.get(url + "/read?path=/nonexistent"); !strings.Contains(got, "no such file") {
		t.Errorf("read of nothing: %q", got)
	}
	p.signal(syscall.SIGHUP)
	p.told("RELOADING=1\nMONOTONIC_USEC=")
	p.told("READY=1")
	p.signal(syscall.SIGUSR2)
	p.line("signal USR2")
	if got := p.get(url + "/signals"); got != "HUP USR2" {
		t.Errorf("saw signals %q", got)
	}
	p.signal(syscall.SIGTERM)
	p.told("STOPPING=1")
	p.line("bye")
	p.ends(0)
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want int
	}{
		{"before ready", []string{"-exit=3", "-early"}, 3},
		{"after ready", []string{"-listen=", "-exit=7"}, 7},
		{"bad flag", []string{"-nonsense"}, 2},
		{"argument", []string{"listen"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, nil, c.args...)
			if c.name == "after ready" {
				p.told("READY=1")
			}
			p.ends(c.want)
		})
	}
}

func TestStopSignals(t *testing.T) {
	p := start(t, nil, "-listen=", "-ignore=TERM", "-stop=USR1", "-out=2")
	p.line("stdout line 2")
	p.told("READY=1")
	p.line("ready, pid")
	p.signal(syscall.SIGTERM)
	p.line("signal TERM")
	p.signal(syscall.SIGUSR1)
	p.line("bye")
	p.ends(0)
}
