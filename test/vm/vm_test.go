// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/test/bed"
)

// boot boots a machine for a test, or skips the test where there can be none.
func boot(t *testing.T, opts Options) *VM {
	t.Helper()
	if testing.Short() {
		t.Skip("a virtual machine takes too long for -short")
	}
	if err := checkTools(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	opts.Log = testLog{t}
	v, err := Boot(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s on %s, seed %d", v.Suite(), v.Accelerator(), v.Seed())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", v.consoleTail())
			if journal, err := v.Journal(context.WithoutCancel(t.Context())); err == nil {
				t.Logf("journal:\n%s", journal[max(0, len(journal)-32<<10):])
			}
		}
		dir := v.dir
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close: %s is still there", dir)
		}
	})
	return v
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// sh runs a shell script in the machine and returns its output.
func sh(t *testing.T, v *VM, script string) string {
	t.Helper()
	res, err := v.Run(t.Context(), "sh", "-ec", script)
	if err != nil {
		t.Fatalf("%v\n%s", err, res.Stdout)
	}
	return strings.TrimSpace(res.Stdout)
}

// TestMachine checks what the other tests take for granted of a machine.
func TestMachine(t *testing.T) {
	v := boot(t, Options{})

	t.Run("Commands", func(t *testing.T) { testCommands(t, v) })
	t.Run("Controllers", func(t *testing.T) {
		got := " " + sh(t, v, "cat /sys/fs/cgroup/cgroup.controllers") + " "
		for _, c := range []string{"cpu", "io", "memory", "pids"} {
			if !strings.Contains(got, " "+c+" ") {
				t.Errorf("no controller %s in%s", c, got)
			}
		}
	})
	t.Run("Verity", func(t *testing.T) {
		const fox = "the quick brown fox\n"
		if err := v.Write(t.Context(), "/var/lib/containers/fox", 0o444, strings.NewReader(fox)); err != nil {
			t.Fatal(err)
		}
		sh(t, v, "fsverity enable /var/lib/containers/fox")
		if err := v.Write(t.Context(), "/var/lib/containers/fox", 0o444, strings.NewReader("x")); err == nil {
			t.Error("a file with fs-verity could be written")
		}
	})
	t.Run("Reboot", func(t *testing.T) { testReboot(t, v) })
	t.Run("PowerCut", func(t *testing.T) {
		before := v.BootID()
		sh(t, v, "echo kept >/var/kept; sync /var/kept /var; echo perhaps >/var/lost")
		if err := v.PowerCut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v.BootID() == before {
			t.Error("the boot id is the old one")
		}
		if got := sh(t, v, "cat /var/kept"); got != "kept" {
			t.Errorf("after a power cut the synced file holds %q", got)
		}
	})
}

func testCommands(t *testing.T, v *VM) {
	ctx := t.Context()
	res, err := v.Run(ctx, "sh", "-c", "echo out; echo err >&2; exit 7")
	var exit *bed.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || res.Stdout != "out\n" || res.Stderr != "err\n" {
		t.Errorf("exit 7: %+v, %v", res, err)
	}
	if res, err := v.Run(ctx, "sh", "-c", "kill -TERM $$"); res.Code != 128+15 {
		t.Errorf("killed by SIGTERM: %+v, %v", res, err)
	}
	if _, err := v.Run(ctx, "/no/such/program"); err == nil {
		t.Error("ran a program that is not there")
	}
	// More than any buffer on the way, through both directions.
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var got bytes.Buffer
	code, err := v.Exec(ctx, bed.Command{Args: []string{"cat"}, Stdin: bytes.NewReader(want), Stdout: &got})
	if code != 0 || err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("cat: code %d, %v, %d of %d bytes", code, err, got.Len(), len(want))
	}
	// A command that reads for ever ends with its context, and others run
	// meanwhile.
	stdin, w := io.Pipe()
	defer w.Close() //nolint:errcheck // a pipe's Close never fails
	pid, out := io.Pipe()
	cctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := v.Exec(cctx, bed.Command{Args: []string{"sh", "-c", "echo $$; cat"}, Stdin: stdin, Stdout: out})
		ended <- err
	}()
	var n int
	if _, err := fmt.Fscan(pid, &n); err != nil {
		t.Fatal(err)
	}
	sh(t, v, fmt.Sprintf("kill -0 %d", n))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	sh(t, v, fmt.Sprintf("tail --pid=%d -f /dev/null", n)) // returns when it is gone
}

func testReboot(t *testing.T, v *VM) {
	before := v.BootID()
	sh(t, v, `echo kept >/var/kept
tpm2_nvdefine -Q -C o -s 4 0x1500001; printf kept | tpm2_nvwrite -Q -C o -i - 0x1500001
printf test | tpm2_pcrevent -Q 8`)
	zero := strings.Repeat("0", 64)
	if got := sh(t, v, "tpm2_pcrread sha256:8"); strings.Contains(got, zero) {
		t.Errorf("PCR 8 after an extend: %s", got)
	}
	if err := v.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v.BootID() == before {
		t.Error("the boot id is the old one")
	}
	if got := sh(t, v, "cat /var/kept"); got != "kept" {
		t.Errorf("after a reboot the file holds %q", got)
	}
	if got := sh(t, v, "tpm2_nvread -C o -s 4 0x1500001"); got != "kept" {
		t.Errorf("after a reboot the TPM's NV index holds %q", got)
	}
	if got := sh(t, v, "tpm2_pcrread sha256:8"); !strings.Contains(got, zero) {
		t.Errorf("PCR 8 after a reboot: %s", got)
	}
	if got := sh(t, v, "systemctl --failed --plain --no-legend"); got != "" {
		t.Errorf("failed units:\n%s", got)
	}
}

// TestInitrd boots without a service manager and cuts the power while a file
// system is being written.
func TestInitrd(t *testing.T) {
	v := boot(t, Options{Initrd: true})
	for i := range 3 {
		sh(t, v, fmt.Sprintf("echo %d >/var/kept; sync; for n in $(seq 200); do echo $n >/var/file-$n; done", i))
		if err := v.PowerCut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := sh(t, v, "cat /var/kept"); got != fmt.Sprint(i) {
			t.Errorf("after power cut %d the synced file holds %q", i, got)
		}
	}
}
