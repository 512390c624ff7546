// SPDX-License-Identifier: Apache-2.0

// Command demo shows the main job for real: it boots a bed, serves real
// images from a real registry in it, and lets atomic install, start, reboot,
// update and uninstall etcd and flanneld. What it prints is what the commands
// print. It stops at the first command that fails, and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/test/images"
)

// step is one thing the demo shows: a remark and a command of the bed's root.
type step struct {
	say, run string
}

var beforeReboot = []step{
	{"A registry serves on loopback, with TLS and a password.", "systemctl show -p Description -p ActiveState registry && ss -Hltn 'sport = :5000'"},
	{"Install etcd. Nothing is asked: it fits the default profile.", "atomic install --system registry.test:5000/library/etcd"},
	{"", "systemctl start etcd"},
	{"", "etcdctl put greeting 'hello, world' && etcdctl get greeting"},
	{"From here on it is a service like any other.", "systemctl status --no-pager --lines=3 etcd"},
	{"Its parent is process 1: no daemon, no shim.", "pstree -apTl 1 | grep -e systemd, -e etcd | head -n 4"},
	{"It is a machine, too.", "machinectl --no-pager list"},
	{"", "machinectl --no-pager --lines=2 status etcd"},
	{"A shell in it, though it runs neither systemd nor D-Bus.", `machinectl --quiet shell etcd /bin/sh -c 'id; tr "\0" " " < /proc/1/cmdline; echo; grep Cap /proc/self/status'`},
	{"And its log is the unit's log.", "journalctl --no-pager -u etcd -o cat -n 3"},
	{"flanneld wants more of the host. Unattended, that is a refusal that says what to grant.", "atomic install --system registry.test:5000/library/flanneld; echo \"exit code $?\""},
	{"flanneld reads its network from etcd.", `etcdctl put /coreos.com/network/config '{"Network":"10.5.0.0/16","Backend":{"Type":"alloc"}}'`},
	{"", "atomic install --system --set FLANNELD_IFACE=127.0.0.1 --grant cap:NET_ADMIN --grant ns:pid-host --grant hostfs:/etc/systemd/system/docker.service.d/50-flanneld.conf registry.test:5000/library/flanneld"},
	{"", "systemctl start flanneld"},
	{"", "atomic containers list"},
	{"Each start was measured into the TPM; the log explains the register.", "atomic attest log --replay"},
}

var afterReboot = []step{
	{"Both are back, in order: flanneld started after etcd was ready.", "journalctl --no-pager -b -o cat -u etcd -u flanneld --grep '^Start(ing|ed) '"},
	{"", "etcdctl get greeting"},
	{"A new version is published; the running service is touched only when it is ready.", "registry-tag library/etcd 3.5-2 latest"},
	{"", "atomic containers update etcd"},
	{"", "etcdctl get greeting && atomic info etcd | head -n 12"},
	{"And away with it.", "atomic uninstall flanneld && atomic uninstall etcd"},
	{"", "atomic containers list; systemctl status etcd; true"},
}

func main() {
	suite := flag.String("suite", "trixie", "Debian release to boot")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *suite, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, suite string, out io.Writer) (err error) {
	builder, err := images.NewBuilder(os.Stderr)
	if err != nil {
		return err
	}
	storage, err := builder.Storage(ctx, images.Default())
	if err != nil {
		return err
	}
	b, err := bed.Boot(ctx, bed.Options{Suite: suite, Name: "host", Product: true, TPM: true, Registry: storage, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()

	fmt.Fprintf(out, "# A Debian %s, booted by its own systemd %s.\n", suite, bed.SystemdVersion(suite))
	if err := show(ctx, b, out, beforeReboot); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n# Now the host reboots.\n$ systemctl reboot\n")
	if err := b.Reboot(ctx); err != nil {
		return err
	}
	return show(ctx, b, out, afterReboot)
}

// show runs the steps with the caller's streams. The last command of a step
// decides whether it succeeded.
func show(ctx context.Context, b *bed.Bed, out io.Writer, steps []step) error {
	for _, s := range steps {
		fmt.Fprintln(out)
		if s.say != "" {
			fmt.Fprintf(out, "# %s\n", s.say)
		}
		fmt.Fprintf(out, "$ %s\n", s.run)
		code, err := b.Exec(ctx, bed.Command{Args: []string{"bash", "-c", s.run}, Stdout: out, Stderr: out})
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("%s: exit code %d", s.run, code)
		}
	}
	return nil
}
