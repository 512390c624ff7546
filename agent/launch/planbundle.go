// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/agent/launch/setup"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

// PlannedBundle is the bundle of a plan: what is left of a Bundle when its
// config.json has been compiled. It exists to compare the engines.
type PlannedBundle struct {
	ID, Root string
	// PIDFile receives init's PID before the payload runs, if it is not empty.
	PIDFile string
}

// RunPlan runs a plan in the foreground, in the caller's own cgroup, and returns
// the payload's exit code: 128 plus the signal's number if a signal ended it.
func RunPlan(in io.Reader, b PlannedBundle) (int, error) {
	content, err := io.ReadAll(io.LimitReader(in, plan.MaxSize+1))
	if err != nil {
		return 1, fmt.Errorf("read plan: %w", err)
	}
	p, err := plan.Parse(content)
	if err != nil {
		return 1, err
	}
	cgroup, err := ownCgroup(0)
	if err != nil {
		return 1, err
	}
	init, err := setup.Clone(p, nil, 0)
	if err != nil {
		return 1, fmt.Errorf("create container %q: %w", b.ID, err)
	}
	defer forwardSignals(func(s os.Signal) error {
		n, ok := s.(unix.Signal)
		if !ok {
			return unix.EINVAL
		}
		return unix.PidfdSendSignal(init.FD, n, nil, 0)
	}, unix.SIGUSR1, unix.SIGUSR2)()
	err = init.Make(setup.Container{Name: b.ID, Root: b.Root, Cgroup: cgroup, Plan: p})
	if err == nil && b.PIDFile != "" {
		err = replace(b.PIDFile, []byte(strconv.Itoa(init.PID)))
	}
	if err == nil {
		err = init.Release()
	}
	if err != nil {
		err = fmt.Errorf("start container %q: %w", b.ID, err)
		init.Abandon()
	}
	var status unix.WaitStatus
	if _, werr := wait4(init.PID, &status); werr != nil {
		return 1, errors.Join(err, fmt.Errorf("wait for container %q: %w", b.ID, werr))
	}
	if status.Signaled() {
		return 128 + int(status.Signal()), err
	}
	return status.ExitStatus(), err
}
