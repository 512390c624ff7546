// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/atomic-agent/atomic/test/vm/wire"
)

// strayDelay is how long a command's output is still read after it has exited:
// a child it left behind may hold the pipe open for ever.
const strayDelay = 2 * time.Second

// servePort serves the host's commands until the host closes the port.
func servePort(initrd bool) error {
	dev, err := findPort("/sys/class/virtio-ports")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	s := &server{w: wire.NewWriter(f), commands: map[uint32]*command{}}
	hello := wire.Greeting{BootID: strings.TrimSpace(string(bootID)), Initrd: initrd}
	if err := s.w.WriteJSON(wire.Hello, 0, hello); err != nil {
		return err
	}
	return s.serve(f)
}

// findPort finds the device of our port. udev may not have run yet.
func findPort(class string) (string, error) {
	names, err := filepath.Glob(filepath.Join(class, "*", "name"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == wire.PortName {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(name))), nil
		}
	}
	return "", fmt.Errorf("no virtio port %q", wire.PortName)
}

type server struct {
	w        *wire.Writer
	mu       sync.Mutex
	commands map[uint32]*command
}

type command struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func (s *server) serve(r io.Reader) error {
	for {
		f, err := wire.Read(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Type == wire.Start {
			s.start(f)
			continue
		}
		s.mu.Lock()
		c := s.commands[f.ID]
		s.mu.Unlock()
		if c == nil {
			continue // it has finished meanwhile
		}
		switch {
		case f.Type == wire.Kill:
			_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it may be gone already
		case f.Type == wire.Stdin && len(f.Data) == 0:
			c.stdin.Close()
		case f.Type == wire.Stdin:
			_, _ = c.stdin.Write(f.Data) // it may have closed its input
		}
	}
}

func (s *server) start(f wire.Frame) {
	var spec wire.Command
	if err := json.Unmarshal(f.Data, &spec); err != nil || len(spec.Args) == 0 {
		s.finish(f.ID, wire.Status{Error: fmt.Sprintf("bad command: %v", err)})
		return
	}
	cmd := exec.Command(spec.Args[0], spec.Args[1:]...) //nolint:noctx // the host ends it with a Kill frame
	cmd.Env = spec.Env
	cmd.Dir = spec.Dir
	cmd.Stdout, cmd.Stderr = s.w.Stream(wire.Stdout, f.ID), s.w.Stream(wire.Stderr, f.ID)
	cmd.WaitDelay = strayDelay
	// Kill reaches what the command itself has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.finish(f.ID, wire.Status{Error: err.Error()})
		return
	}
	s.mu.Lock()
	s.commands[f.ID] = &command{cmd: cmd, stdin: stdin}
	s.mu.Unlock()
	go func() {
		status := exitStatus(cmd, cmd.Wait())
		s.mu.Lock()
		delete(s.commands, f.ID)
		s.mu.Unlock()
		s.finish(f.ID, status)
	}()
}

func exitStatus(cmd *exec.Cmd, err error) wire.Status {
	if cmd.ProcessState == nil {
		return wire.Status{Error: err.Error()}
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return wire.Status{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
	}
	return wire.Status{Code: cmd.ProcessState.ExitCode()}
}

func (s *server) finish(id uint32, status wire.Status) {
	// If the host is gone there is nobody to tell.
	_ = s.w.WriteJSON(wire.Finished, id, status)
}
