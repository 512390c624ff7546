// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupRoot is where systemd mounts the unified hierarchy.
const cgroupRoot = "/sys/fs/cgroup"

// ownCgroup is the cgroup of a process as a path in the unified hierarchy;
// pid 0 is the caller.
func ownCgroup(pid int) (string, error) {
	proc := "self"
	if pid != 0 {
		proc = strconv.Itoa(pid)
	}
	data, err := os.ReadFile("/proc/" + proc + "/cgroup")
	if err != nil {
		return "", fmt.Errorf("read cgroup: %w", err)
	}
	return parseCgroup(string(data))
}

func parseCgroup(data string) (string, error) {
	for line := range strings.Lines(data) {
		if path, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::"); ok {
			return filepath.Join(cgroupRoot, path), nil
		}
	}
	return "", errors.New("read cgroup: this host does not use the unified cgroup hierarchy")
}

// inCgroup reports whether a process in the cgroup path is in, or below, unit.
func inCgroup(unit, path string) bool {
	return path == unit || strings.HasPrefix(path, unit+"/")
}
