// SPDX-License-Identifier: Apache-2.0

// Atomic installs container images as services of the host.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/atomic-agent/atomic/agent/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
