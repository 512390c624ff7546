// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/agent/launch"
	"github.com/atomic-agent/atomic/internal/paths"
)

// runBundle runs an OCI bundle that was never installed.
func runBundle(ctx context.Context, args []string) error {
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
	switch engine {
	case "oci":
	case "plan":
		return runPlan(ctx, b)
	default:
		return fmt.Errorf("engine %q is unknown", engine)
	}
	code, err := newLauncher().RunBundle(b)
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

// runPlan compiles a bundle and leaves it to the program that executes plans.
func runPlan(ctx context.Context, b launch.Bundle) error {
	p, root, err := b.CompileBundle(ctx)
	if err != nil {
		return err
	}
	starter, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	starter = filepath.Join(filepath.Dir(starter), filepath.Base(paths.Starter))
	fd, err := unix.MemfdCreate("plan", 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "plan")
	if _, err := file.Write(p.Encode()); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	args := []string{starter, "run", strconv.Itoa(fd), b.ID, root, b.PIDFile}
	return fmt.Errorf("execute %s: %w", starter, unix.Exec(starter, args, os.Environ()))
}
