// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"os"
	"path/filepath"
)

// Layers prepares what Options.Product and Options.Registry put over a root
// file system, for a machine that is no bed. It fills the empty directory dir
// and returns directories to lay over rootfs, the topmost first, and others to
// copy to places that exist in those.
func Layers(ctx context.Context, dir, rootfs string, opts Options) (layers []string, copies []Bind, err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	b := &Bed{opts: opts, dir: dir, rootfs: rootfs}
	if err := os.Mkdir(b.path("upper"), 0o755); err != nil {
		return nil, nil, err
	}
	hosts := "127.0.0.1 localhost registry.test\n127.0.1.1 " + opts.Name + "\n::1 localhost ip6-localhost ip6-loopback\n"
	if err := b.writeUpper("etc/hosts", 0o644, hosts); err != nil {
		return nil, nil, err
	}
	if err := b.writeUpper("etc/hostname", 0o644, opts.Name+"\n"); err != nil {
		return nil, nil, err
	}
	if opts.Product {
		if err := b.installProduct(ctx); err != nil {
			return nil, nil, err
		}
	}
	if opts.Registry != "" {
		if err := b.prepareRegistry(ctx); err != nil {
			return nil, nil, err
		}
	}
	for _, bind := range b.opts.Binds {
		if err := b.makeDirs(filepath.Clean(bind.Target)[1:]); err != nil {
			return nil, nil, err
		}
	}
	return append([]string{b.path("upper")}, b.opts.Layers...), b.opts.Binds, nil
}
