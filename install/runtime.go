// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// ociRuntime is a runtime that was found on the host.
type ociRuntime struct {
	record.Runtime
	version string
}

// runtimeWait bounds how long a runtime may think about its version.
const runtimeWait = 10 * time.Second

// chooseRuntime returns the runtime that makes a container, nil if the launcher
// does: the one that the administrator wants for it, else the host's.
func (a *Agent) chooseRuntime(ctx context.Context, o unitgen.Options) (*ociRuntime, error) {
	path := o.Runtime
	if path == "" && o.Isolation != unitgen.IsolationNative {
		path = a.conf.Launch.Runtime
	}
	without := "--runtime atomic does without"
	switch {
	case path == "" || path == unitgen.OwnRuntime:
		return nil, nil
	case o.Isolation == unitgen.IsolationNative:
		return nil, hint.New(errors.New("--runtime has no place with --isolation=native, where systemd makes the container"), "leave one of them out")
	case !filepath.IsAbs(path):
		return nil, hint.New(fmt.Errorf("--runtime %q is not an absolute path", path), "--runtime /usr/bin/"+path)
	}
	path = filepath.Clean(path)
	program := a.host.Path(path)
	fi, err := os.Stat(program)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.New(fmt.Errorf("Cannot install the container: the runtime %s is not installed", path), without) //nolint:staticcheck // the wording is part of the contract
	case err != nil:
		return nil, fmt.Errorf("find the runtime: %w", err)
	case !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
		return nil, hint.New(fmt.Errorf("the runtime %s is no program", path), without)
	}
	ctx, cancel := context.WithTimeout(ctx, runtimeWait)
	defer cancel()
	// crun makes a directory even for that.
	scratch, err := os.MkdirTemp("", "atomic-runtime-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	cmd := exec.CommandContext(ctx, program, "--version")
	var out bytes.Buffer
	cmd.Stdout, cmd.Env = &out, []string{"XDG_RUNTIME_DIR=" + scratch}
	if err := cmd.Run(); err != nil {
		return nil, hint.New(fmt.Errorf("ask the runtime %s for its version: %w", path, err), without)
	}
	rt := &ociRuntime{Runtime: record.Runtime{Path: path}}
	rt.Kind, rt.version = parseVersion(out.String())
	return rt, nil
}

// parseVersion reads the first line that a runtime prints about itself, for
// example "crun version 1.21".
func parseVersion(text string) (kind, version string) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 3 || f[1] != "version" || f[0] != record.Crun && f[0] != record.Runc {
		return record.OtherRuntime, ""
	}
	return f[0], f[2]
}

// older reports whether a version is lower than major.minor. A version that
// cannot be read is not.
func older(version string, major, minor int) bool {
	f := strings.SplitN(version, ".", 3)
	if len(f) < 2 {
		return false
	}
	a, err := strconv.Atoi(f[0])
	if err != nil {
		return false
	}
	b, err := strconv.Atoi(f[1])
	return err == nil && (a < major || a == major && b < minor)
}

// check refuses what the runtime is known to leave out without a word.
func (rt *ociRuntime) check(out *unitgen.Output) error {
	if rt == nil || rt.Kind != record.Runc || !older(rt.version, 1, 2) {
		return nil
	}
	var spec specs.Spec
	if err := json.Unmarshal(out.Config, &spec); err != nil {
		return fmt.Errorf("parse config.json: %w", err)
	}
	mapped := func(m specs.Mount) bool {
		return len(m.UIDMappings)+len(m.GIDMappings) > 0 || slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
	}
	if i := slices.IndexFunc(spec.Mounts, mapped); i >= 0 {
		return hint.New(fmt.Errorf("runc %s does not map the owners of files: the volume at %s would be nobody's", rt.version, spec.Mounts[i].Destination),
			"runc has it from 1.2 on, crun has it; --userns=host does without")
	}
	return nil
}
