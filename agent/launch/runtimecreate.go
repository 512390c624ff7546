// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
)

// createByRuntime is the creator's work when another runtime makes the
// container: the runtime is gone when it has, and its init a child of PID 1.
func (l Launcher) createByRuntime(ctx context.Context, d *deployment, run runDir, unit string, twin *os.File) (err error) {
	o := &ociRuntime{*d.rec.Atomic.Start.Runtime, run, d.name}
	if err := run.noteRuntime(o.Runtime); err != nil {
		return fmt.Errorf("note runtime: %w", err)
	}
	spec, passed, err := l.runtimeSpec(d)
	if err != nil {
		return err
	}
	if err := run.writeBundle(spec); err != nil {
		return err
	}
	pidFile := filepath.Join(run.bundle(), "pid")
	args := []string{"--bundle", run.bundle(), "--pid-file", pidFile}
	if len(passed) > 0 {
		args = append(args, "--preserve-fds", strconv.Itoa(len(passed)))
	}
	if spec.Process.Terminal {
		args = append(args, "--console-socket", filepath.Join(d.dir, consoleSocket))
	}
	cmd := o.command(ctx, run.runtimeState(), "create", args...)
	cmd.ExtraFiles = passed
	if err := o.runApart(cmd, propagates(spec)); err != nil {
		return o.failed("create", err)
	}
	pid, err := readPIDFile(pidFile)
	if err != nil {
		return o.failed("create", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(unix.Kill(pid, unix.SIGKILL)))
		}
	}()
	if err := o.checkCgroup(pid, unit); err != nil {
		return err
	}
	if err := run.writeInit(pid); err != nil {
		return err
	}
	return sendInit(twin, pid, d.digest)
}

// writeBundle makes the directory that a runtime takes a container from.
func (r runDir) writeBundle(spec *specs.Spec) error {
	config, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.Mkdir(r.bundle(), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make bundle: %w", err)
	}
	if err := replace(filepath.Join(r.bundle(), "config.json"), config); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// readPIDFile reads what a runtime says of init.
func readPIDFile(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("its PID file says %q", text)
	}
	return pid, nil
}

// ignoreMissing drops an error that only says that a process is gone already.
func ignoreMissing(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// runApart runs a command that makes a container in a mount namespace between
// the host's and the container's.
func (o *ociRuntime) runApart(cmd *exec.Cmd, propagates bool) error {
	// The thread that has left the host's mount namespace, and that the runtime
	// is a child of, ends with the goroutine.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := o.apart(propagates)
		if err == nil {
			err = cmd.Run()
		}
		done <- err
	}()
	return <-done
}

// apart takes the calling thread into a mount namespace from which nothing gets
// to the host, unless the container's mounts are to: crun 1.21 covers parts of
// the host's own /sys when it masks those of a container in a user namespace.
// runc finds the cgroup hierarchy read-only there; the container has a mount of
// its own.
func (o *ociRuntime) apart(propagates bool) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("leave the mount namespace: %w", err)
	}
	if !propagates {
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("protect the host's mounts: %w", err)
		}
	}
	if o.Kind == record.Runc {
		const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := unix.Mount("", cgroupRoot, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			return fmt.Errorf("protect cgroups: %w", err)
		}
	}
	return nil
}

// propagates reports whether a mount in the container is to reach the host.
func propagates(spec *specs.Spec) bool {
	shared := func(option string) bool { return option == "shared" || option == "rshared" }
	return shared(spec.Linux.RootfsPropagation) ||
		slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return slices.ContainsFunc(m.Options, shared) })
}

// checkCgroup refuses an init that the runtime has taken out of the unit, where
// no limit of the unit and no stop would reach it.
func (o *ociRuntime) checkCgroup(pid int, unit string) error {
	is, err := ownCgroup(pid)
	if err != nil {
		return o.failed("create", err)
	}
	if is != unit {
		return hint.New(o.failed("create", fmt.Errorf("it has put the payload into the cgroup %s, out of its unit's", strings.TrimPrefix(is, cgroupRoot))),
			"have it leave cgroups alone, by a script that calls it with the right options, or use crun or runc")
	}
	return nil
}

// runtimeSpec is the configuration for a runtime: the deployment's, with the
// unit's part taken out and what the unit passes on added.
func (l Launcher) runtimeSpec(d *deployment) (*specs.Spec, []*os.File, error) {
	spec, err := d.parseSpec()
	if err != nil {
		return nil, nil, err
	}
	d.adapt(spec, l.Log)
	if spec.Linux.Seccomp != nil && nativeOnly(spec) {
		spec.Linux.Seccomp.Architectures = nil
	}
	spec.Annotations = nil // runtimes take orders from them, which nobody has granted
	spec.Version = "1.0.2" // older ones refuse what they do not know; the features are in the members

	passed, err := listenFDs(os.Getenv, os.Getppid())
	if err != nil {
		return nil, nil, err
	}
	spec.Process.Env = l.passOn(d, specConfig(spec), len(passed))
	return spec, passed, nil
}

// specConfig is a configuration for a runtime as what the unit passes on changes
// it.
func specConfig(spec *specs.Spec) engineConfig {
	return engineConfig{
		env:         spec.Process.Env,
		privatePIDs: privatePIDs(spec),
		userNS:      len(spec.Linux.UIDMappings) > 0,
		hasTmpfs: func(target string) bool {
			return slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
				return filepath.Clean(m.Destination) == target && m.Type == "tmpfs"
			})
		},
		bind: func(source, target string, idmap bool) {
			options := []string{"bind", "ro", "nosuid", "nodev", "noexec"}
			if idmap {
				options = append(options, "idmap")
			}
			spec.Mounts = append(spec.Mounts, specs.Mount{Destination: target, Type: "bind", Source: source, Options: options})
		},
	}
}

func privatePIDs(spec *specs.Spec) bool {
	for _, n := range spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			return n.Path == ""
		}
	}
	return false
}
