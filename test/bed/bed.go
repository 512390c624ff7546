// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/unit"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/hint"
)

// Bed is one booted system. Its methods may be called from several goroutines,
// but only one may reboot or close it.
type Bed struct {
	Guest

	opts   Options
	dir    string // state directory
	rootfs string
	cgroup cgroup
	lock   *os.File

	mu   sync.Mutex
	boot *boot // the running system, or the last one
	tpm  *tpm
}

// Boot boots a bed and waits until its boot is complete, as systemd itself
// reports it. Stale beds are swept first. The caller must Close the bed.
func Boot(ctx context.Context, opts Options) (*Bed, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, hint.New(errors.New("boot bed: not root"), "a bed needs namespaces, mounts and device nodes: use sudo")
	}
	recipe, err := NewRecipe(opts.Suite, opts.Variant)
	if err != nil {
		return nil, err
	}
	rootfs, err := recipe.Rootfs(ctx, opts.Log)
	if err != nil {
		return nil, err
	}
	if err := Sweep(ctx); err != nil {
		return nil, fmt.Errorf("sweep stale beds: %w", err)
	}
	b := &Bed{opts: opts, rootfs: rootfs}
	b.Guest = NewGuest(b)
	if err := b.claim(ctx); err != nil {
		return nil, err
	}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare bed: %w", err), b.Close())
	}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// claim makes the bed's state directory and locks it for its life.
func (b *Bed) claim(ctx context.Context) error {
	beds, err := cachePath("beds")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(beds, 0o755); err != nil {
		return err
	}
	var fsys syscall.Statfs_t
	if err := syscall.Statfs(beds, &fsys); err == nil && fsys.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return hint.New(fmt.Errorf("claim bed: %s is on overlayfs, which cannot be the upper layer of another", beds),
			"set ATOMIC_TEST_CACHE to a directory on ext4, xfs or btrfs, in a container that of a volume")
	}
	unlock, err := lockFile(ctx, beds+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if b.cgroup, err = cgroupOf(b.opts.Name); err != nil {
		return err
	}
	b.dir = filepath.Join(beds, b.opts.Name)
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return hint.New(fmt.Errorf("claim bed: %w", err), "a bed of this name is alive, choose another name")
	}
	b.lock, err = os.OpenFile(filepath.Join(b.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return syscall.Flock(int(b.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

// prepare fills the state directory with what all boots of the bed share.
func (b *Bed) prepare(ctx context.Context) error {
	for _, dir := range []string{"root", "upper/etc", "work", "containers", "dev"} {
		if err := os.MkdirAll(b.path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := makeNodes(b.path("dev")); err != nil {
		return err
	}
	if err := b.writeUpper("etc/machine-id", 0o444, randomHex()+"\n"); err != nil {
		return err
	}
	if err := b.writeUpper("etc/hostname", 0o644, b.opts.Name+"\n"); err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost registry.test\n127.0.1.1 " + b.opts.Name + "\n::1 localhost ip6-localhost ip6-loopback\n"
	if err := b.writeUpper("etc/hosts", 0o644, hosts); err != nil {
		return err
	}
	b.bind(b.path("containers"), "/var/lib/containers")
	if b.opts.Product {
		if err := b.installProduct(ctx); err != nil {
			return err
		}
	}
	if b.opts.Registry != "" {
		if err := b.prepareRegistry(ctx); err != nil {
			return err
		}
	}
	if b.opts.TPM {
		if err := b.prepareTPM(); err != nil {
			return err
		}
	}
	// Without these the first boot would bring /etc and /var up to date with /usr.
	for _, name := range []string{"etc/.updated", "var/.updated"} {
		if err := b.writeUpper(name, 0o644, ""); err != nil {
			return err
		}
	}
	if err := b.keepMounts(); err != nil {
		return err
	}
	return os.WriteFile(b.path("binds"), []byte(bindTable(b.opts.Binds)), 0o644)
}

// keepMounts lets what init.sh mounts outlive a soft reboot, as a machine's root
// file system does: nobody would mount it again.
func (b *Bed) keepMounts() error {
	targets := []string{"/run/bed/proc", "/run/bed/sys", "/run/bed/notify"}
	for _, bind := range b.opts.Binds {
		targets = append(targets, bind.Target)
	}
	for _, t := range targets {
		name := "etc/systemd/system/" + unit.UnitNamePathEscape(t) + ".mount.d/bed.conf"
		if err := b.writeUpper(name, 0o644, "[Unit]\nDefaultDependencies=no\nIgnoreOnIsolate=yes\n"); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bed) bind(source, target string) {
	b.opts.Binds = append(b.opts.Binds, Bind{Source: source, Target: target})
}

// bindTable renders bind mounts as init.sh reads them.
func bindTable(binds []Bind) string {
	var t strings.Builder
	for _, bind := range binds {
		mode := "rw"
		if bind.ReadOnly {
			mode = "ro"
		}
		fmt.Fprintf(&t, "%s\t%s\t%s\n", mode, bind.Source, bind.Target)
	}
	return t.String()
}

// path returns a path in the state directory.
func (b *Bed) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

// writeUpper writes a file over the bed's root file system, before it boots.
func (b *Bed) writeUpper(name string, mode os.FileMode, text string) error {
	if err := b.makeDirs(filepath.Dir(name)); err != nil {
		return err
	}
	path := b.path("upper", name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // despite umask
}

// makeDirs makes a directory over the bed's root file system, with its parents.
// Those that the root file system has already keep their permissions.
func (b *Bed) makeDirs(name string) error {
	dir := ""
	for part := range strings.SplitSeq(name, "/") {
		dir = filepath.Join(dir, part)
		mode := os.FileMode(0o755)
		if info, err := os.Stat(filepath.Join(b.rootfs, dir)); err == nil {
			mode = info.Mode().Perm()
		}
		path := b.path("upper", dir)
		if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}

// Name returns the bed's name, which is also its host name.
func (b *Bed) Name() string { return b.opts.Name }

// Suite returns the Debian release that the bed runs.
func (b *Bed) Suite() string { return b.opts.Suite }

// PID returns the process, on the machine, that is process 1 in the bed, or was.
func (b *Bed) PID() int {
	if boot := b.current(); boot != nil {
		return boot.pid
	}
	return 0
}

// Reboot shuts the bed down in order, as `systemctl reboot` does, and boots it
// again from the same disk. A software TPM is reset as by a real reboot.
func (b *Bed) Reboot(ctx context.Context) error {
	// The answer may be lost in the shutdown that it starts.
	_, err := b.Run(ctx, "systemctl", "reboot")
	return b.rebootAfter(ctx, err)
}

// SoftReboot restarts the bed's user space, as `systemctl soft-reboot` does:
// what survives that is still there, and process 1 is the same.
func (b *Bed) SoftReboot(ctx context.Context) error {
	boot := b.current()
	count := func() (string, error) {
		res, err := b.Run(ctx, "systemctl", "show", "-P", "SoftRebootsCount")
		return res.Stdout, err
	}
	before, err := count()
	if err == nil && strings.TrimSpace(before) == "" {
		err = errors.New("systemd does not count soft reboots")
	}
	if err != nil {
		return fmt.Errorf("reboot bed softly: %w", err)
	}
	// The answer may be lost in the shutdown that it starts.
	_, cause := b.Run(ctx, "systemctl", "soft-reboot")
	for {
		if err := b.booted(ctx, boot); err != nil {
			return errors.Join(err, cause)
		}
		// systemd is also ready after each reload.
		if now, err := count(); err == nil && now != before {
			return nil
		}
	}
}

func (b *Bed) rebootAfter(ctx context.Context, cause error) error {
	if err := b.wait(ctx); err != nil {
		return errors.Join(err, cause)
	}
	return b.start(ctx)
}

// Shutdown powers the bed off in order and leaves it off. Start boots it again.
func (b *Bed) Shutdown(ctx context.Context) error {
	_, err := b.Run(ctx, "systemctl", "poweroff")
	if werr := b.wait(ctx); werr != nil {
		return errors.Join(werr, err)
	}
	return nil
}

// Start boots a bed that was shut down or died.
func (b *Bed) Start(ctx context.Context) error { return b.start(ctx) }

// PowerCut kills every process of the bed at once and boots it again from the
// same disk.
func (b *Bed) PowerCut(ctx context.Context) error {
	if err := b.Kill(ctx); err != nil {
		return err
	}
	return b.start(ctx)
}

// Kill kills every process of the bed at once and leaves it off.
func (b *Bed) Kill(ctx context.Context) error {
	if err := b.cgroup.kill(); err != nil {
		return fmt.Errorf("kill bed: %w", err)
	}
	return b.wait(ctx)
}

// wait waits until the bed's process 1 has ended.
func (b *Bed) wait(ctx context.Context) error {
	boot := b.current()
	if boot == nil {
		return nil
	}
	select {
	case <-boot.done:
		return nil
	case <-ctx.Done():
		return b.gaveUp(ctx, "wait for bed "+b.opts.Name+" to end")
	}
}

func (b *Bed) current() *boot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.boot
}

// Stopping waits until a bed that is shutting down has ended, and reports
// whether it did so to boot again. A bed that is not shutting down is no error:
// ended is false.
func (b *Bed) Stopping(ctx context.Context) (ended, reboot bool, err error) {
	// Process 1 is systemd until the last unit has stopped, and then
	// systemd-shutdown, which ends all other processes.
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", b.current().pid))
	if err == nil && string(comm) == "systemd\n" {
		return false, false, nil
	}
	if err := b.wait(ctx); err != nil {
		return false, false, err
	}
	// reboot(2) in a pid namespace ends its process 1 with a signal that says how.
	ws, ok := b.current().state.Sys().(syscall.WaitStatus)
	return true, ok && ws.Signaled() && ws.Signal() == syscall.SIGHUP, nil
}

// Close ends the bed and removes all of it. It may be called twice. It takes no
// context: a caller whose context has ended still wants its bed gone.
func (b *Bed) Close() error {
	var errs []error
	if b.dir == "" || b.lock == nil {
		return nil
	}
	if err := b.cgroup.kill(); err != nil {
		errs = append(errs, err)
	}
	if boot := b.current(); boot != nil {
		<-boot.done
	}
	b.stopTPM()
	errs = append(errs, removeState(b.dir, b.cgroup))
	b.lock.Close()
	b.lock = nil
	return errors.Join(errs...)
}

func randomHex() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:])
}
