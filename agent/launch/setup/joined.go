// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// inNamespaces calls f in namespaces that others have made. They are entered
// with the host's rights, and what f starts is in them from its first moment on.
func inNamespaces(joined []plan.Join, f func() error) error {
	if len(joined) == 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: nothing else may run in this thread
		done <- func() error {
			for _, j := range joined {
				if err := setns(j); err != nil {
					return fmt.Errorf("join the namespace %s: %w", j.Path, err)
				}
			}
			return f()
		}()
	}()
	return <-done
}

func setns(j plan.Join) error {
	fd, err := unix.Open(j.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Setns(fd, int(j.Kind))
}
