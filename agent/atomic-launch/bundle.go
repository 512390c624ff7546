// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/atomic-agent/atomic/agent/launch"
)

// runBundle runs an OCI bundle that was never installed.
func runBundle(args []string) error {
	b := launch.Bundle{ID: "bundle-" + strconv.Itoa(os.Getpid())}
	engine := "oci"
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&b.Dir, "bundle", "", "")
	f.StringVar(&b.ID, "id", b.ID, "")
	f.StringVar(&b.PIDFile, "pid-file", "", "")
	f.StringVar(&engine, "engine", engine, "")
	if f.Parse(args) != nil || f.NArg() != 0 || b.Dir == "" {
		return errUsage
	}
	if engine != "oci" {
		return fmt.Errorf("engine %q is unknown", engine)
	}
	code, err := newLauncher().RunBundle(b)
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}
