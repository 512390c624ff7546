// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// CompileBundle compiles a bundle's config.json, as installation does, and
// returns the plan and where the root file system is.
func (b Bundle) CompileBundle(ctx context.Context) (p *plan.Plan, root string, err error) {
	d, spec, err := b.open()
	if err != nil {
		return nil, "", err
	}
	if p, err = plan.Compile(spec); err != nil {
		return nil, "", fmt.Errorf("compile config.json: %w", err)
	}
	filter, err := compileSeccomp(ctx, d.config)
	if err != nil {
		return nil, "", err
	}
	if filter != nil {
		p.SeccompFlags, p.Seccomp = filter.Flags, filter.Filter
	}
	root, err = filepath.EvalSymlinks(d.root)
	return p, root, err
}
