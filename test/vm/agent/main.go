// SPDX-License-Identifier: Apache-2.0

// The agent runs commands inside a virtual machine for the test outside.
//
// One static program does two jobs. As /init of the initial RAM disk it loads
// the block driver, mounts the root file system and hands over to the real
// init; with "vm.initrd" on the kernel command line it stays PID 1 and serves
// there, on the mounted root file system but without a service manager. As a
// unit of the booted system (agent serve) it serves until the machine goes down.
package main

import (
	"fmt"
	"os"
)

func main() {
	var err error
	switch {
	case os.Getpid() == 1:
		err = bootRoot()
		// PID 1 must not exit: say why and give up, which ends the machine.
		fmt.Fprintf(os.Stderr, "vm-agent: %v\n", err)
		giveUp()
	case len(os.Args) == 2 && os.Args[1] == "serve":
		err = servePort(false)
	default:
		err = fmt.Errorf("usage: agent serve")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm-agent: %v\n", err)
		os.Exit(1)
	}
}
