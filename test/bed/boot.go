// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

//go:embed init.sh
var initScript string

// boot is one life of a bed's process 1.
type boot struct {
	pid     int
	ready   chan struct{} // told when systemd has finished booting
	done    chan struct{} // closed when process 1 has ended
	state   *os.ProcessState
	cleanup []io.Closer
}

// start boots the bed and waits until systemd says that it is done.
func (b *Bed) start(ctx context.Context) error {
	if err := b.startTPM(ctx); err != nil {
		return err
	}
	boot, err := b.launch()
	if err != nil {
		return fmt.Errorf("boot bed %s: %w", b.opts.Name, err)
	}
	b.mu.Lock()
	b.boot = boot
	b.mu.Unlock()
	return b.booted(ctx, boot)
}

// booted waits until systemd says that it has booted.
func (b *Bed) booted(ctx context.Context, boot *boot) error {
	select {
	case <-boot.ready:
		return nil
	case <-boot.done:
		return fmt.Errorf("boot bed %s: process 1 ended (%v)\n%s", b.opts.Name, boot.state, b.consoleTail())
	case <-ctx.Done():
		return b.gaveUp(ctx, "boot bed "+b.opts.Name)
	}
}

// gaveUp is the error of waiting until ctx ended. If that was for lack of time,
// the console may say why.
func (b *Bed) gaveUp(ctx context.Context, what string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	return fmt.Errorf("%s: %w\n%s", what, ctx.Err(), b.consoleTail())
}

func (b *Bed) launch() (_ *boot, err error) {
	boot := &boot{ready: make(chan struct{}, 1), done: make(chan struct{})}
	defer func() {
		if err != nil {
			boot.close()
		}
	}()
	// A group that was killed once kills whatever is cloned into it from a
	// group that was not (Linux 6.18), so that each boot gets a new one.
	if err := b.cgroup.remove(); err != nil {
		return nil, err
	}
	group, err := b.cgroup.open("")
	if err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	boot.cleanup = append(boot.cleanup, group)
	tty, ttyName, err := b.openConsole(boot)
	if err != nil {
		return nil, fmt.Errorf("open console: %w", err)
	}
	if err := b.listenReady(boot); err != nil {
		return nil, fmt.Errorf("listen for readiness: %w", err)
	}
	if err := os.WriteFile(b.path("boot_id"), []byte(uuid(randomHex())+"\n"), 0o444); err != nil {
		return nil, err
	}
	lower := strings.Join(append(b.opts.Layers[:len(b.opts.Layers):len(b.opts.Layers)], b.rootfs), ":")
	cmd := exec.Command("unshare", "--cgroup", "--", "/bin/sh", "-c", initScript, "bed-init", //nolint:noctx // outlives the context of the boot: Close ends it
		b.dir, lower, b.opts.Name, ttyName)
	cmd.Stdout, cmd.Stderr = tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		UseCgroupFD: true,
		CgroupFD:    int(group.Fd()),
		Setsid:      true,
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := startTied(cmd, func() {
		boot.state = cmd.ProcessState
		boot.close()
		close(boot.done)
	}); err != nil {
		return nil, err
	}
	boot.pid = cmd.Process.Pid
	return boot, nil
}

// startTied starts a command that dies with this process, and calls ended when
// it has ended. PR_SET_PDEATHSIG is about the parent's thread, so that a thread
// stays for as long as the command lives.
func startTied(cmd *exec.Cmd, ended func()) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() //nolint:errcheck // how it ended is in cmd.ProcessState
			ended()
		}
	}()
	return <-started
}

func (boot *boot) close() {
	for _, c := range boot.cleanup {
		c.Close()
	}
}

// openConsole makes the pseudo terminal that is /dev/console in the bed. What
// the bed writes to it is appended to console.log.
func (b *Bed) openConsole(boot *boot) (tty *os.File, name string, err error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, "", err
	}
	boot.cleanup = append(boot.cleanup, master)
	var number int
	err = control(master, func(fd int) (err error) {
		if number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err != nil {
			return err
		}
		return unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	})
	if err != nil {
		return nil, "", err
	}
	name = "/dev/pts/" + strconv.Itoa(number)
	// Held open so that the master never sees a hang-up between two openers.
	if tty, err = os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		return nil, "", err
	}
	log, err := os.OpenFile(b.path("console.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		tty.Close()
		return nil, "", err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(log, master) //nolint:errcheck // ends when the boot closes the terminal
	}()
	boot.cleanup = append(boot.cleanup, tty, closer(func() error {
		<-copied
		return log.Close()
	}))
	return tty, name, nil
}

type closer func() error

func (c closer) Close() error { return c() }

func control(f *os.File, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// listenReady serves the socket on which systemd tells its container manager
// that the boot is complete (sd_notify(3), as for systemd-nspawn).
func (b *Bed) listenReady(boot *boot) error {
	path := b.path("notify")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A socket's name has at most 107 bytes, which the cache's path may exceed.
	dir, err := os.Open(b.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/notify", dir.Fd())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: short, Net: "unixgram"})
	if err != nil {
		return err
	}
	boot.cleanup = append(boot.cleanup, conn)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			for line := range strings.Lines(string(buf[:n])) {
				if strings.TrimSpace(line) == "READY=1" {
					select {
					case boot.ready <- struct{}{}:
					default:
					}
				}
			}
		}
	}()
	return nil
}

// consoleTail returns the end of the console's log, for error messages.
func (b *Bed) consoleTail() string {
	text, err := os.ReadFile(b.path("console.log"))
	if err != nil {
		return ""
	}
	var tail tailWriter
	tail.Write(text) //nolint:errcheck // memory
	return tail.String()
}

// loopNodes is how many loop devices have a node in the bed; the kernel hands
// out the lowest free number of the whole machine.
const loopNodes = 256

// makeNodes makes the device nodes that init.sh copies into the bed's /dev.
func makeNodes(dir string) error {
	type node struct {
		name         string
		mode         uint32
		major, minor uint32
	}
	nodes := []node{
		{"null", 0o666 | unix.S_IFCHR, 1, 3},
		{"zero", 0o666 | unix.S_IFCHR, 1, 5},
		{"full", 0o666 | unix.S_IFCHR, 1, 7},
		{"random", 0o666 | unix.S_IFCHR, 1, 8},
		{"urandom", 0o666 | unix.S_IFCHR, 1, 9},
		{"tty", 0o666 | unix.S_IFCHR, 5, 0},
		{"fuse", 0o666 | unix.S_IFCHR, 10, 229},
		{"net/tun", 0o666 | unix.S_IFCHR, 10, 200},
		{"loop-control", 0o660 | unix.S_IFCHR, 10, 237},
	}
	for i := range uint32(loopNodes) {
		nodes = append(nodes, node{"loop" + strconv.Itoa(int(i)), 0o660 | unix.S_IFBLK, 7, i})
	}
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o755); err != nil {
		return err
	}
	for _, n := range nodes {
		path := filepath.Join(dir, n.name)
		if err := unix.Mknod(path, n.mode, int(unix.Mkdev(n.major, n.minor))); err != nil {
			return fmt.Errorf("make device node %s: %w", n.name, err)
		}
		if err := os.Chmod(path, os.FileMode(n.mode&0o777)); err != nil { // despite umask
			return err
		}
	}
	links := map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "core": "/proc/kcore",
		"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "console"), nil, 0o600)
}

func uuid(hex string) string {
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}
