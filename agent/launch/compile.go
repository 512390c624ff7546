// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// CompileBundle compiles a bundle's config.json, as installation does, and
// returns the plan and where the root file system is.
func (b Bundle) CompileBundle(ctx context.Context) (p *plan.Plan, root string, err error) {
	dir, err := filepath.Abs(b.Dir)
	if err != nil {
		return nil, "", err
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, "", fmt.Errorf("read configuration: %w", err)
	}
	d := &deployment{name: b.ID, dir: dir, config: config}
	spec, err := d.parseSpec()
	if err != nil {
		return nil, "", err
	}
	if p, err = plan.Compile(spec); err != nil {
		return nil, "", fmt.Errorf("compile config.json: %w", err)
	}
	filter, err := compileSeccomp(ctx, config)
	if err != nil {
		return nil, "", err
	}
	if filter != nil {
		p.SeccompFlags, p.Seccomp = filter.Flags, filter.Filter
	}
	if spec.Root == nil || spec.Root.Path == "" {
		return nil, "", fmt.Errorf("read config.json of %q: root.path is empty", b.ID)
	}
	if root = spec.Root.Path; !filepath.IsAbs(root) {
		root = filepath.Join(dir, root)
	}
	root, err = filepath.EvalSymlinks(root)
	return p, root, err
}
