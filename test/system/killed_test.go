// SPDX-License-Identifier: Apache-2.0

package system

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/test/bed"
)

// doomedBed is set in the environment of a copy of this program that boots a
// bed of that name and waits for its end.
const doomedBed = "ATOMIC_TEST_DOOMED_BED"

// unifiedBed makes the copy boot a bed, print its state and close it.
const unifiedBed = "ATOMIC_TEST_UNIFIED_BED"

func TestMain(m *testing.M) {
	if os.Getenv(unifiedBed) != "" {
		os.Exit(bootAndClose())
	}
	if name := os.Getenv(doomedBed); name != "" {
		os.Exit(boundToDie(name))
	}
	os.Exit(m.Run())
}

func boundToDie(name string) int {
	// Close is never reached: the parent kills this process.
	b, err := bed.Boot(context.Background(), bed.Options{Name: name, TPM: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(b.PID())
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // waits
	return 0
}

func bootAndClose() int {
	ctx := context.Background()
	b, err := bed.Boot(ctx, bed.Options{})
	if err == nil {
		var res bed.Result
		res, err = b.Run(ctx, "systemctl", "is-system-running")
		fmt.Print(res.Stdout)
		err = errors.Join(err, b.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestUnified boots a bed as on a machine without cgroup v1: in a mount
// namespace in which /sys/fs/cgroup is the unified hierarchy.
func TestUnified(t *testing.T) {
	if os.Geteuid() != 0 {
		skipGroup(t)
	}
	if testing.Short() {
		t.Skip("system tests are not short")
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-ec",
		`umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), unifiedBed+"=yes")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil || string(out) != "running\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestKilled kills a process that has a bed: the bed's processes die with it,
// and the next one to boot a bed removes the rest.
func TestKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		skipGroup(t)
	}
	if testing.Short() {
		t.Skip("system tests are not short")
	}
	name := fmt.Sprintf("doomed-%d", os.Getpid())
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), doomedBed+"="+name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("no bed: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	init, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(init) //nolint:errcheck // only waited for

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() //nolint:errcheck // killed
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(init), Events: unix.POLLIN}}, 30_000); n != 1 {
		t.Fatalf("the bed outlives the process that booted it: %v", err)
	}
	if err := bed.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	cache, err := bed.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{
		filepath.Join(cache, "beds", name),
		"/sys/fs/cgroup/atomic-bed-" + name,
		"/sys/fs/cgroup/*/atomic-bed-" + name,
	} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), name) {
		t.Errorf("mounts left behind: %v", err)
	}
}
