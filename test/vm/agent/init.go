// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	rootDevice = "/dev/vda"
	newRoot    = "/root"
)

// bootRoot is /init of the initial RAM disk. It returns only on failure.
func bootRoot() error {
	for _, m := range []struct{ fs, dir string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := mount(m.fs, m.dir, m.fs, 0); err != nil {
			return err
		}
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	if err := mount(rootDevice, newRoot, "ext4", 0); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if err := mount(dir, newRoot+dir, "", unix.MS_MOVE); err != nil {
			return err
		}
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := mount(".", "/", "", unix.MS_MOVE); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if slices.Contains(strings.Fields(string(cmdline)), "vm.initrd") {
		return serveInitrd()
	}
	return fmt.Errorf("exec /sbin/init: %w", syscall.Exec("/sbin/init", []string{"/sbin/init"}, []string{"TERM=dumb"}))
}

// serveInitrd makes the root file system usable without a service manager.
func serveInitrd() error {
	for _, dir := range []string{"/run", "/tmp"} {
		if err := mount("tmpfs", dir, "tmpfs", 0); err != nil {
			return err
		}
	}
	if err := mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0); err != nil {
		return err
	}
	if err := os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"); err != nil {
		return err
	}
	return servePort(true)
}

// loadModules loads every module in dir, in name order. The kernel unpacks them.
func loadModules(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		flags := 0
		if !strings.HasSuffix(name, ".ko") {
			flags = unix.MODULE_INIT_COMPRESSED_FILE
		}
		if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil {
			return fmt.Errorf("load %q: %w", name, err)
		}
		f.Close()
	}
	return nil
}

func mount(source, target, fs string, flags uintptr) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, fs, flags, ""); err != nil {
		return fmt.Errorf("mount %q on %q: %w", source, target, err)
	}
	return nil
}

// giveUp ends the machine at once. Whatever is not on the disk is lost.
func giveUp() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // fails only without the right to
	select {}
}
