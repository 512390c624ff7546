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
	"strings"

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
func (r runDir) newRelay() string             { return r.relay() + ".new" }
func (r runDir) credentials() string          { return filepath.Join(r.host(), "credentials") }
func (r runDir) runtime() string              { return filepath.Join(string(r), "runtime") }
func (r runDir) runtimeState() string         { return filepath.Join(string(r), "r") }
func (r runDir) bundle() string               { return filepath.Join(string(r), "bundle") }
func (r runDir) init() string                 { return filepath.Join(string(r), "init") }
func (r runDir) pid() string                  { return filepath.Join(string(r), "pid") }
func (r runDir) health() string               { return filepath.Join(string(r), "health") }
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

// prepare does for both engines what precedes a start: it makes sure that there
// is a root file system and that the container does not run, and makes the
// run-time directory. unit is the unit's cgroup.
func (l Launcher) prepare(d *deployment) (run runDir, unit string, err error) {
	run = runOf(l.Host, d.name)
	if err := d.checkMounted(); err != nil {
		return run, "", err
	}
	if err := run.reconcile(d.name); err != nil {
		return run, "", err
	}
	if err := run.prepare(); err != nil {
		return run, "", err
	}
	if err := l.prepareBus(d); err != nil {
		return run, "", err
	}
	unit, err = ownCgroup(0)
	return run, unit, err
}

// prepareBus makes the directory of the login bus, which the container mounts.
// It is the socket unit's, but a container starts without that unit as well.
func (l Launcher) prepareBus(d *deployment) error {
	if !d.rec.Atomic.Start.Bus {
		return nil
	}
	if err := os.MkdirAll(l.Host.Bus(d.name), 0o755); err != nil {
		return fmt.Errorf("make directory of the login bus: %w", err)
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

// remove removes a file that may be missing.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errRunning is returned when the container's init is alive.
var errRunning = errors.New("already running")

// reconcile removes what a previous start left behind. It is safe to run at
// any time: a container whose init lives is not touched.
func (r runDir) reconcile(name string) error {
	alive, err := r.alive(name)
	if err != nil {
		return err
	}
	if alive {
		return fmt.Errorf("container %q: %w", name, errRunning)
	}
	for _, left := range []string{r.container(name), r.init(), r.runtime(), r.runtimeState(), r.bundle()} {
		if err := os.RemoveAll(left); err != nil {
			return fmt.Errorf("remove leftovers: %w", err)
		}
	}
	return nil
}

// alive reports whether the container's init is alive, whichever engine
// started it.
func (r runDir) alive(name string) (bool, error) {
	for _, file := range []string{filepath.Join(r.container(name), "state.json"), r.init()} {
		if alive, err := initAlive(file); alive || err != nil {
			return alive, err
		}
	}
	return false, nil
}

// initState is init of a container that was started by its plan or by another
// runtime. The keys are those that libcontainer has in its own state.
type initState struct {
	Version int    `json:"version"`
	PID     int    `json:"init_process_pid"`
	Start   uint64 `json:"init_process_start"`
}

// writeInit notes which process is init.
func (r runDir) writeInit(pid int) error {
	p, err := readProc(pid)
	if err != nil {
		return fmt.Errorf("examine init: %w", err)
	}
	return replace(r.init(), []byte(initState{1, pid, p.start}.json()))
}

// json writes the state without package encoding/json, which takes longer to
// prepare for its first value than all of this.
func (s initState) json() string {
	return fmt.Sprintf(`{"version":%d,"init_process_pid":%d,"init_process_start":%d}`+"\n", s.Version, s.PID, s.Start)
}

// initAlive reports whether the init that a state file names is alive. A missing
// or unreadable file names none: libcontainer writes its own before it lets
// init go on.
func initAlive(file string) (bool, error) {
	state, err := readInit(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read state: %w", err)
	}
	if state.PID <= 0 {
		return false, nil
	}
	p, err := readProc(state.PID)
	return err == nil && p.start == state.Start && p.state != 'Z' && p.state != 'X', nil
}

func readInit(file string) (s initState, err error) {
	data, err := os.ReadFile(file)
	if err == nil {
		_ = json.Unmarshal(data, &s)
	}
	return s, err
}

// procStat is what /proc/PID/stat says.
type procStat struct {
	state byte
	ppid  int
	start uint64
}

func readProc(pid int) (procStat, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(stat))
}

// parseStat reads fields 3, 4 and 22. The second one is the command in
// parentheses, which may hold anything.
func parseStat(stat string) (p procStat, err error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return p, errors.New("a process has an unknown form of status")
	}
	p.state = f[0][0]
	if p.ppid, err = strconv.Atoi(f[1]); err == nil {
		p.start, err = strconv.ParseUint(f[19], 10, 64)
	}
	return p, err
}
