// SPDX-License-Identifier: Apache-2.0

// Package tpmtest gives a test a TPM of its own: an swtpm(8) process that ends
// with the test.
//
// It is a real TPM 2.0 implementation, so what is tested against it is the
// protocol, not a model of it. Without swtpm on PATH the test is skipped,
// except on CI (CI=true), where that is a failure.
package tpmtest

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TPM is a running emulator.
type TPM struct {
	// Socket is the data socket; Device is the same as a Device= setting.
	Socket, Device string

	ctrl string
}

// Start starts a TPM as it is after power-on, with TPM2_Startup(CLEAR) done.
func Start(t testing.TB) *TPM {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("swtpm is not installed")
		}
		t.Skip("swtpm is not installed")
	}
	dir, err := os.MkdirTemp("", "swtpm") //nolint:usetesting // a socket's name is shorter than 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	tpm := &TPM{Socket: filepath.Join(dir, "data"), ctrl: filepath.Join(dir, "data.ctrl")}
	tpm.Device = "unix:" + tpm.Socket
	out, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// Killed below, not by t.Context: it ends before the test's other cleanups.
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir, //nolint:noctx // see above
		"--server", "type=unixio,path="+tpm.Socket, "--ctrl", "type=unixio,path="+tpm.ctrl,
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			text, _ := os.ReadFile(out.Name())
			t.Logf("swtpm: %v\n%s", cmd.ProcessState, text)
		}
	})
	// swtpm does not tell when it listens; the data socket comes last.
	for start := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.Dial("unix", tpm.Socket) //nolint:noctx // a local socket
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-exited:
			text, _ := os.ReadFile(out.Name())
			t.Fatalf("swtpm ended: %s", text)
		default:
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("swtpm does not listen: %v", err)
		}
	}
	return tpm
}

// Reset resets the TPM in place, as a cut of its power does, and starts it up.
func (tpm *TPM) Reset() error {
	// swtpm's control protocol: command, arguments; the answer is a result.
	const cmdInit = 2
	answer, err := tpm.exchange(tpm.ctrl, binary.BigEndian.AppendUint32([]byte{0, 0, 0, cmdInit}, 0))
	if err != nil {
		return err
	}
	if len(answer) < 4 || binary.BigEndian.Uint32(answer) != 0 {
		return fmt.Errorf("swtpm refuses the reset: %x", answer)
	}
	startup := []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0}
	answer, err = tpm.exchange(tpm.Socket, startup)
	if err != nil {
		return err
	}
	if len(answer) != 10 || binary.BigEndian.Uint32(answer[6:]) != 0 {
		return fmt.Errorf("the TPM refuses its startup: %x", answer)
	}
	return nil
}

func (tpm *TPM) exchange(socket string, command []byte) ([]byte, error) {
	conn, err := net.Dial("unix", socket) //nolint:noctx // a local socket
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	return answer[:n], err
}
