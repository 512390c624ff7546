// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Snapshot describes the state of a host that installing and removing software
// changes: each file below /etc, /run and /usr/local, each unit file systemd
// knows with its enablement, and each failed unit. The keys are paths, and
// "unit file NAME" and "failed unit NAME"; the values are type, mode, owner,
// size and content, or the state.
type Snapshot map[string]string

// volatile are the parts of /run and /etc that change by themselves while a
// host runs. Everything else must be the same before and after.
var volatile = []string{
	"/run/bed/",                  // the bed's own
	"/run/credentials/",          // one mount for each running unit that has some
	"/run/lock/",                 // locks of running commands
	"/run/log/journal/",          // the journal grows
	"/run/log/atomic/",           // the measurement log outlives containers by design
	"/run/systemd/dynamic-uid/",  // users of running units
	"/run/systemd/inaccessible/", // made by the first sandboxed unit
	"/run/systemd/journal/",      // one stream for each running unit
	"/run/systemd/propagate/",    // mount tunnels of running units
	"/run/systemd/resolve/",      // caches and statistics
	"/run/systemd/seats/",        // logind
	"/run/systemd/sessions/",     // logind
	"/run/systemd/unit-root/",    // made by the first sandboxed unit
	"/run/systemd/transient",     // made by the first transient unit
	"/run/systemd/units/",        // one invocation id for each unit that ran
	"/run/systemd/users/",        // logind
	"/run/systemd/netif/",        // networkd
	"/run/systemd/show-status",   // PID 1's console state
	"/run/systemd/generator",     // rebuilt by each daemon-reload
	"/run/systemd/machine/",      // machined's sockets, made when it first starts
	"/run/systemd/userdb/io.systemd.Machine",
	"/run/systemd/resolve.hook/",
	"/run/systemd/mount-rootfs",     // made by the first sandboxed unit
	"/run/systemd/io.systemd",       // sockets of services started on demand
	"/run/systemd/unit-private-tmp", // made by the first unit with PrivateTmp
	"/run/tpm2-tss/",                // tpm2-tools
	"/run/udev/",                    // udevd
	"/run/user/",                    // logind
	"/run/utmp",                     // logins
	"/run/motd.d/",                  // logins
}

// machines is where systemd-machined keeps what it knows, up to the moment when it
// hears that a unit has stopped.
const machines = "/run/systemd/machines/"

// Late reports whether all that other has more than s is what systemd-machined has
// not heard of yet.
func (s Snapshot) Late(other Snapshot) bool {
	rest := maps.Clone(other)
	maps.DeleteFunc(rest, func(name, _ string) bool { return s[name] == "" && strings.HasPrefix(name, machines) })
	return len(rest) < len(other) && s.Diff(rest) == ""
}

// Snapshot takes the bed's.
func (b *Bed) Snapshot(ctx context.Context) (Snapshot, error) {
	boot := b.current()
	if boot == nil {
		return nil, errors.New("snapshot: bed is off")
	}
	s := Snapshot{}
	root := fmt.Sprintf("/proc/%d/root", boot.pid)
	for _, top := range []string{"/etc", "/run", "/usr/local"} {
		if err := s.addTree(root, top); err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
	}
	for key, args := range map[string][]string{
		"unit file":   {"list-unit-files", "--no-legend", "--no-pager", "--plain"},
		"failed unit": {"list-units", "--failed", "--all", "--no-legend", "--no-pager", "--plain"},
	} {
		res, err := b.Run(ctx, append([]string{"systemctl"}, args...)...)
		if err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		s.addUnits(key, res.Stdout)
	}
	return s, nil
}

// addUnits adds a table of systemctl's, whose first column is the name.
func (s Snapshot) addUnits(key, table string) {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 0 {
			s[key+" "+f[0]] = strings.Join(f[1:], " ")
		}
	}
}

// addTree adds the files below root+top under their names below root.
func (s Snapshot) addTree(root, top string) error {
	var dev uint64
	return filepath.WalkDir(root+top, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it lives
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return ignoreGone(err)
		}
		if name == top {
			dev = st.Dev
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if isVolatile(name, isDir) || isDir && st.Dev != dev {
			if isDir {
				return fs.SkipDir
			}
			return nil
		}
		text, err := describe(path, &st)
		if err != nil {
			return ignoreGone(err)
		}
		s[name] = text
		return nil
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func isVolatile(name string, isDir bool) bool {
	if isDir {
		name += "/"
	}
	return slices.ContainsFunc(volatile, func(v string) bool { return strings.HasPrefix(name, v) })
}

// describe renders what a file is, without its times.
func describe(path string, st *unix.Stat_t) (string, error) {
	text := fmt.Sprintf("%s %04o %d:%d", fileType(st.Mode), st.Mode&0o7777, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		return text + " -> " + target, err
	case unix.S_IFCHR, unix.S_IFBLK:
		return fmt.Sprintf("%s %d:%d", text, unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
	case unix.S_IFREG:
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s %d %s", text, st.Size, hex.EncodeToString(h.Sum(nil))[:16]), nil
	}
	return text, nil
}

func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "dir"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFCHR:
		return "char"
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "file"
}

// Diff returns what is different in other: one line for each key that was
// added (+), removed (-) or changed (- and +), in order; "" if nothing is.
func (s Snapshot) Diff(other Snapshot) string {
	keys := map[string]bool{}
	for k := range s {
		keys[k] = true
	}
	for k := range other {
		keys[k] = true
	}
	sorted := make([]string, 0, len(keys))
	for k := range keys {
		sorted = append(sorted, k)
	}
	slices.Sort(sorted)
	var diff strings.Builder
	for _, k := range sorted {
		was, had := s[k]
		is, has := other[k]
		if had == has && was == is {
			continue
		}
		if had {
			fmt.Fprintf(&diff, "- %s: %s\n", k, was)
		}
		if has {
			fmt.Fprintf(&diff, "+ %s: %s\n", k, is)
		}
	}
	return diff.String()
}
