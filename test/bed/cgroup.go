// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/atomic-agent/atomic/internal/hint"
)

// cgroupRoot returns the machine's cgroup v2 mount: /sys/fs/cgroup on a unified
// host, /sys/fs/cgroup/unified on a hybrid one.
func cgroupRoot() (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return "", err
	}
	if len(mounts) == 0 {
		return "", hint.New(errors.New("no cgroup v2 hierarchy is mounted"),
			"mount -t cgroup2 none /sys/fs/cgroup/unified")
	}
	return mounts[0].Mountpoint, nil
}

// cgroup is the directory of one bed's subtree.
type cgroup string

func cgroupOf(name string) (cgroup, error) {
	root, err := cgroupRoot()
	if err != nil {
		return "", err
	}
	return cgroup(filepath.Join(root, "atomic-bed-"+name)), nil
}

// open makes the child group (the subtree itself if child is empty) and returns
// its directory, for clone3(2).
func (c cgroup) open(child string) (*os.File, error) {
	dir := filepath.Join(string(c), child)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.Open(dir)
}

// kill ends every process of the subtree at once. It does not wait for them.
func (c cgroup) kill() error {
	err := os.WriteFile(filepath.Join(string(c), "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// remove kills what is left in the subtree and removes it.
func (c cgroup) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// A killed process leaves its group a moment after the kill; the kernel
	// tells pollers of cgroup.events, but rmdir's own answer is simpler.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := errors.Join(c.kill(), c.rmdir())
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup: %w", err)
		case <-tick.C:
		}
	}
}

func (c cgroup) rmdir() error {
	var dirs []string
	err := filepath.WalkDir(string(c), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
