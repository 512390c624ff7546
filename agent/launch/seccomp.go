// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer/seccomp"
	"golang.org/x/sys/unix"
)

// seccompFilter is a compiled filter as seccomp(2) takes it.
type seccompFilter struct {
	Flags  uint64 `json:"flags"`
	Filter []byte `json:"filter"` // of struct sock_filter
}

// compileTimeout bounds what takes milliseconds.
const compileTimeout = 10 * time.Second

// seccompLoader is the hidden verb of the process that loads a filter.
const seccompLoader = "load-seccomp"

// compileSeccomp returns the filter of a config.json, byte by byte the one that
// the kernel would get from the complete engine: a child loads it exactly as
// that does, and is stopped at the very system call. nil means that there is no
// filter.
func compileSeccomp(ctx context.Context, config []byte) (*seccompFilter, error) {
	d := &deployment{name: "config.json", config: config}
	spec, err := d.parseSpec()
	if err != nil || spec.Linux.Seccomp == nil {
		return nil, err
	}
	filter, err := traceSeccomp(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp filter: %w", err)
	}
	return filter, nil
}

// LoadSeccomp loads the filter of a config.json into the caller, which is the
// child of compileSeccomp.
func LoadSeccomp(config []byte) error {
	runtime.LockOSThread()
	d := &deployment{name: "config.json", config: config}
	spec, err := d.parseSpec()
	if err != nil {
		return err
	}
	cfg, err := d.convert(spec, nil)
	if err != nil {
		return err
	}
	if _, err = seccomp.InitSeccomp(cfg.Seccomp); err == nil {
		err = errors.New("nobody stopped the filter from being loaded")
	}
	return err
}

// syscallInfo is struct ptrace_syscall_info, up to the arguments of a call.
type syscallInfo struct {
	op      uint8
	_       [3]uint8
	arch    uint32
	ip, sp  uint64
	number  uint64
	args    [6]uint64
	padding [2]uint64
}

func traceSeccomp(ctx context.Context, config []byte) (*seccompFilter, error) {
	runtime.LockOSThread() // a tracer is a thread
	defer runtime.UnlockOSThread()
	var stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(ctx, compileTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", seccompLoader)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(config), &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	filter, err := follow(pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil && stderr.Len() > 0 {
		return nil, errors.New(string(bytes.TrimSpace(stderr.Bytes())))
	}
	return filter, err
}

// follow runs a traced process from one system call to the next up to the one
// that would load a filter.
func follow(pid int) (*seccompFilter, error) {
	var status unix.WaitStatus
	if _, err := wait4(pid, &status); err != nil {
		return nil, err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL); err != nil {
		return nil, err
	}
	signal := 0
	for {
		if err := unix.PtraceSyscall(pid, signal); err != nil {
			return nil, err
		}
		if _, err := wait4(pid, &status); err != nil {
			return nil, err
		}
		if !status.Stopped() {
			return nil, fmt.Errorf("the process ended with status %d", status.ExitStatus())
		}
		if signal = int(status.StopSignal()); signal != int(unix.SIGTRAP)|0x80 {
			continue
		}
		signal = 0
		var info syscallInfo
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(pid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
		if errno != 0 {
			return nil, fmt.Errorf("read system call: %w", errno)
		}
		if info.op != unix.PTRACE_SYSCALL_INFO_ENTRY {
			continue
		}
		flags, program := info.loads()
		if program != 0 {
			return readFilter(pid, flags, program)
		}
	}
}

// loads returns the program that a system call would load. libseccomp's probes
// for what the kernel supports have none.
func (i *syscallInfo) loads() (flags, program uint64) {
	switch {
	case i.number == unix.SYS_SECCOMP && i.args[0] == unix.SECCOMP_SET_MODE_FILTER:
		return i.args[1], i.args[2]
	case i.number == unix.SYS_PRCTL && i.args[0] == unix.PR_SET_SECCOMP && i.args[1] == unix.SECCOMP_MODE_FILTER:
		return 0, i.args[2]
	}
	return 0, 0
}

func readFilter(pid int, flags, program uint64) (*seccompFilter, error) {
	head := make([]byte, 16) // struct sock_fprog
	if err := peek(pid, program, head); err != nil {
		return nil, err
	}
	filter := make([]byte, 8*int(binary.NativeEndian.Uint16(head)))
	if err := peek(pid, binary.NativeEndian.Uint64(head[8:]), filter); err != nil {
		return nil, err
	}
	return &seccompFilter{flags, filter}, nil
}

func peek(pid int, at uint64, buf []byte) error {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
	if err == nil && n != len(buf) {
		err = errors.New("it is incomplete")
	}
	if err != nil {
		return fmt.Errorf("read filter: %w", err)
	}
	return nil
}

// WriteSeccomp compiles the filter of a config.json and writes it as JSON.
func WriteSeccomp(ctx context.Context, in, out *os.File) error {
	var config bytes.Buffer
	if _, err := config.ReadFrom(in); err != nil {
		return err
	}
	filter, err := compileSeccomp(ctx, config.Bytes())
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(filter)
}
