// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runc/libcontainer/system"

	"github.com/atomic-agent/atomic/internal/paths"
)

// runDir is the run-time directory of one started container. Its content is
// documented in docs/formats/launch.md.
type runDir string

func runOf(host paths.Host, name string) runDir { return runDir(host.Run(name)) }

func (r runDir) state() string                { return filepath.Join(string(r), "c") }
func (r runDir) container(name string) string { return filepath.Join(r.state(), name) }
func (r runDir) fifo(name string) string      { return filepath.Join(r.container(name), "exec.fifo") }
func (r runDir) host() string                 { return filepath.Join(string(r), "host") }
func (r runDir) relay() string                { return filepath.Join(r.host(), "notify") }
func (r runDir) credentials() string          { return filepath.Join(r.host(), "credentials") }
func (r runDir) pid() string                  { return filepath.Join(string(r), "pid") }
func (r runDir) pending() string              { return filepath.Join(string(r), "unregistered") }

// prepare makes the directories that both halves of the launcher need. systemd
// has made the outermost; outside a unit it is made here. Only root may enter
// it: everyone in the container may write to the notification socket inside,
// and nobody else.
func (r runDir) prepare() error {
	for dir, mode := range map[string]fs.FileMode{r.state(): 0o711, r.host(): 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make run-time directory: %w", err)
		}
	}
	if err := os.Chmod(string(r), 0o700); err != nil {
		return fmt.Errorf("close run-time directory: %w", err)
	}
	return nil
}

// writePID publishes init's PID. Readers see the old file or the whole new one.
func (r runDir) writePID(pid int) error {
	return replace(r.pid(), []byte(strconv.Itoa(pid)+"\n"))
}

func replace(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// errRunning is returned when the container's init is alive.
var errRunning = errors.New("already running")

// reconcile removes what a previous start left behind. It is safe to run at
// any time: a container whose init lives is not touched.
func (r runDir) reconcile(name string) error {
	dir := r.container(name)
	alive, err := initAlive(filepath.Join(dir, "state.json"))
	if err != nil {
		return err
	}
	if alive {
		return fmt.Errorf("container %q: %w", name, errRunning)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove leftovers: %w", err)
	}
	return nil
}

// initAlive reports whether the init that a libcontainer state file names is
// alive. A missing or unreadable file names none: libcontainer writes it before
// it lets init go on.
func initAlive(file string) (bool, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read state: %w", err)
	}
	var state struct {
		PID   int    `json:"init_process_pid"`
		Start uint64 `json:"init_process_start"`
	}
	_ = json.Unmarshal(data, &state)
	if state.PID <= 0 {
		return false, nil
	}
	stat, err := system.Stat(state.PID)
	return err == nil && stat.StartTime == state.Start && stat.State != system.Zombie && stat.State != system.Dead, nil
}
