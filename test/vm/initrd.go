// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// initrdModules are loaded in this order before the root file system can be
// mounted; what the kernel has built in is left out.
var initrdModules = []string{"virtio_blk"}

// buildInitrd makes the initial RAM disk: the agent as /init, the modules, and
// nothing else. It boots in a second where a distribution's takes ten.
func buildInitrd(rootfs, agent, path string) error {
	init, err := os.ReadFile(agent)
	if err != nil {
		return err
	}
	var a cpioArchive
	a.add("dev", fs.ModeDir|0o755, nil)
	a.add("modules", fs.ModeDir|0o755, nil)
	a.add("init", 0o755, init)
	for i, name := range initrdModules {
		file, err := findModule(rootfs, name)
		if err != nil {
			return err
		}
		if file == "" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		a.add(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(file)), 0o644, data)
	}
	return os.WriteFile(path, a.bytes(), 0o644)
}

// findModule returns the file of a kernel module, or "" if it is built in.
func findModule(rootfs, name string) (string, error) {
	dirs, err := filepath.Glob(filepath.Join(rootfs, "usr/lib/modules/*"))
	if err != nil {
		return "", err
	}
	if len(dirs) != 1 {
		return "", fmt.Errorf("%d kernels in %q, want one", len(dirs), rootfs)
	}
	builtin, err := os.ReadFile(filepath.Join(dirs[0], "modules.builtin"))
	if err != nil {
		return "", err
	}
	if strings.Contains(string(builtin), "/"+name+".ko\n") {
		return "", nil
	}
	var found string
	err = filepath.WalkDir(dirs[0], func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), name+".ko") {
			found = path
			return filepath.SkipAll
		}
		return err
	})
	if err == nil && found == "" {
		err = fmt.Errorf("kernel module %q: %w", name, fs.ErrNotExist)
	}
	return found, err
}

// kernelImage returns the one kernel in a root file system.
func kernelImage(rootfs string) (string, error) {
	names, err := filepath.Glob(filepath.Join(rootfs, "boot/vmlinuz-*"))
	if err != nil {
		return "", err
	}
	if len(names) == 0 {
		return "", errors.New("no kernel in the root file system")
	}
	sort.Strings(names)
	return names[len(names)-1], nil
}

// cpioArchive is an archive in the "newc" format that the kernel unpacks.
type cpioArchive struct {
	buf   bytes.Buffer
	inode int
}

func (a *cpioArchive) add(name string, mode fs.FileMode, data []byte) {
	kind := 0o100000
	if mode.IsDir() {
		kind = 0o040000
	}
	a.entry(name, kind|int(mode.Perm()), data)
}

func (a *cpioArchive) entry(name string, mode int, data []byte) {
	a.inode++
	const uid, gid, links, mtime, major, minor, check = 0, 0, 1, 0, 0, 0, 0
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.inode, mode, uid, gid, links, mtime, len(data), major, minor, major, minor, len(name)+1, check, name)
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *cpioArchive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

// bytes ends the archive.
func (a *cpioArchive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}
