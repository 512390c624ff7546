// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"runtime"

	"github.com/atomic-agent/atomic/agent/launch"
)

// The filter is loaded by the main thread, the one that is traced.
func init() {
	if len(os.Args) == 2 && os.Args[1] == "load-seccomp" {
		runtime.LockOSThread()
	}
}

// loadSeccomp is the traced half of the verb "seccomp".
func loadSeccomp() error {
	config, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	return launch.LoadSeccomp(config)
}
