// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/internal/conf"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/unitgen"
	"github.com/atomic-agent/atomic/unitgen/plan"
)

// planFile is the plan's name in the deployment's directory.
const planFile = "plan"

// starter is the program that starts containers by their plans, "" if none are
// to be made.
func (a *Agent) starter() string {
	if a.conf.Launch.Engine != conf.EnginePlan {
		return ""
	}
	if _, err := os.Stat(a.host.Path(paths.Starter)); err != nil {
		return ""
	}
	return paths.Starter
}

// addPlan completes the deployment's plan, if it has one, and binds it to
// configuration and root file system. A plan that cannot be completed is left
// out: the complete engine needs none.
func (a *Agent) addPlan(ctx context.Context, p *prepared, rootfs string) {
	if p.out.Plan == nil {
		return
	}
	pl := *p.out.Plan
	pl.Config, pl.Rootfs = p.d.rec.Atomic.ConfigSHA256, rootfs
	var err error
	if pl.SeccompFlags, pl.Seccomp, err = a.compileSeccomp(ctx, p.out.Config); err != nil {
		a.say("Warning: %v; starts of %s take longer without it", err, p.d.name)
		return
	}
	content := pl.Encode()
	if _, err := plan.Parse(content); err != nil {
		a.say("Warning: the configuration is too large to be compiled (%v); starts of %s take longer without that", err, p.d.name)
		return
	}
	p.files[planFile] = unitgen.HostFile{Content: content, Mode: 0o600}
	p.d.rec.Atomic.Start.Engine = string(conf.EnginePlan)
	p.d.rec.Atomic.Start.PlanSHA256 = fileSum(content)
}

// compileSeccomp returns a configuration's seccomp filter. The launcher
// compiles it, with the same library and in the same way as when it starts the
// container itself.
func (a *Agent) compileSeccomp(ctx context.Context, config []byte) (flags uint64, filter []byte, err error) {
	cmd := exec.CommandContext(ctx, a.host.Path(paths.Launcher), "seccomp")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(config), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return 0, nil, fmt.Errorf("compile seccomp filter: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var out struct {
		Flags  uint64 `json:"flags"`
		Filter []byte `json:"filter"`
	}
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		return 0, nil, fmt.Errorf("compile seccomp filter: %w", err)
	}
	return out.Flags, out.Filter, nil
}

// Plan returns the plan of a container's current deployment. Its error, where
// there is none, says why.
func (a *Agent) Plan(name string) (*plan.Plan, error) {
	d, err := a.deployed(name)
	if err != nil {
		return nil, err
	}
	if d.rec.Atomic.Start.Engine != string(conf.EnginePlan) {
		return nil, d.whyNoPlan()
	}
	content, err := os.ReadFile(filepath.Join(d.dir(), planFile))
	if err != nil {
		return nil, fmt.Errorf("read plan of %q: %w", name, err)
	}
	if fileSum(content) != d.rec.Atomic.Start.PlanSHA256 {
		return nil, fmt.Errorf("plan of %q is not the one that was installed", name)
	}
	p, err := plan.Parse(content)
	if errors.Is(err, plan.ErrVersion) {
		return nil, hint.New(fmt.Errorf("container %q: %w", name, err), "until it is updated it is started by libcontainer")
	}
	return p, err
}

// whyNoPlan explains why a deployment has no plan.
func (d *deployment) whyNoPlan() error {
	if !d.rec.HasContainerService {
		return fmt.Errorf("container %q has no plan: there is nothing to start", d.name)
	}
	var spec specs.Spec
	content, err := os.ReadFile(filepath.Join(d.dir(), "config.json"))
	if err == nil {
		err = json.Unmarshal(content, &spec)
	}
	if err != nil {
		return fmt.Errorf("read configuration of %q: %w", d.name, err)
	}
	if _, err = plan.Compile(&spec); err == nil {
		err = errors.New("plans were off when it was installed")
	}
	return hint.New(fmt.Errorf("container %q has no plan: %w", d.name, err), "it is started by libcontainer, which takes longer")
}
