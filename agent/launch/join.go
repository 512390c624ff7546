// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/internal/hint"
)

// joined is a running container that further processes can be started in. It is
// how everything enters a container: atomic exec and the sessions of machinectl.
type joined struct {
	d         *deployment
	container *libcontainer.Container
	init      int       // PID of the container's init
	started   uint64    // when that was, in ticks
	cgroup    string    // of the payload
	root      rootFiles // what the container sees as /
}

// command is what to run in a container.
type command struct {
	args []string
	// user is "USER" or "USER:GROUP"; empty means the payload's user.
	user string
	// login gives the command the environment and the working directory of a
	// user who logs in: home directory, shell and name.
	login bool
	// dir is the working directory; empty means the payload's, or with login
	// the user's home directory.
	dir string
	// env wins over all other variables.
	env []string
}

// join opens a running container.
func (l Launcher) join(name string) (*joined, error) {
	d, err := open(l.Host, name)
	if err != nil {
		return nil, err
	}
	// A container that was started by its plan is described for libcontainer
	// when the first one joins it.
	if err := l.describe(d); err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	notRunning := hint.New(fmt.Errorf("container %q: %w", name, errNotRunning), "systemctl start "+name)
	c, err := libcontainer.Load(runOf(l.Host, name).state(), name)
	if errors.Is(err, libcontainer.ErrNotExist) {
		return nil, notRunning
	}
	if err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	state, err := c.State()
	if err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	j := &joined{d: d, container: c, init: state.InitProcessPid, started: state.InitProcessStartTime, cgroup: state.CgroupPaths[""]}
	if err := setCgroupManager(c, unitCgroup{j.cgroup}); err != nil {
		return nil, err
	}
	status, err := c.Status()
	if err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	if status != libcontainer.Running {
		return nil, notRunning
	}
	if j.root, err = openRoot(j.init); err != nil {
		return nil, fmt.Errorf("open container %q: %w", name, err)
	}
	return j, nil
}

func (j *joined) close() { j.root.close() }

// process is the payload's process with another command in it: the same
// namespaces, cgroup, capabilities, seccomp filter, labels and limits. The
// notification socket is not its business.
func (j *joined) process(cmd command) (*libcontainer.Process, error) {
	spec, err := j.d.parseSpec()
	if err != nil {
		return nil, err
	}
	dropLabels(spec, nil) // which the start has warned about
	p, err := process(spec.Process)
	if err != nil {
		return nil, err
	}
	if p.Rlimits, err = j.limits(); err != nil {
		return nil, err
	}
	p.Args = cmd.args
	p.Stdin, p.Stdout, p.Stderr = nil, nil, nil
	env := environment(payloadEnv(envInput{config: p.Env, notify: notifyLauncher}))
	if cmd.user != "" {
		who, err := j.root.user(cmd.user, p.UID, p.GID)
		if err != nil {
			return nil, err
		}
		p.UID, p.GID, p.AdditionalGroups = who.UID, who.GID, who.Groups
		if cmd.login {
			for _, kv := range who.variables() {
				env.set(kv)
			}
			p.Cwd = "/"
			if j.root.isDir(who.Home) {
				p.Cwd = who.Home
			}
		}
	}
	if cmd.dir != "" {
		p.Cwd = cmd.dir
	}
	for _, kv := range cmd.env {
		env.set(kv)
	}
	p.Env = env
	return p, nil
}

// limits are those of the payload: config.json's, and the unit's for the rest.
// They are read from a file, because prlimit(2) wants CAP_SYS_RESOURCE for a
// process of another user.
func (j *joined) limits() ([]configs.Rlimit, error) {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", j.init))
	if err != nil {
		return nil, fmt.Errorf("read the payload's limits: %w", err)
	}
	list, err := parseLimits(string(table))
	if err != nil {
		return nil, fmt.Errorf("read the payload's limits: %w", err)
	}
	return list, nil
}

// limitNames are proc_pid_limits(5)'s.
var limitNames = map[string]int{
	"Max address space": unix.RLIMIT_AS, "Max core file size": unix.RLIMIT_CORE, "Max cpu time": unix.RLIMIT_CPU,
	"Max data size": unix.RLIMIT_DATA, "Max file size": unix.RLIMIT_FSIZE, "Max file locks": unix.RLIMIT_LOCKS,
	"Max locked memory": unix.RLIMIT_MEMLOCK, "Max msgqueue size": unix.RLIMIT_MSGQUEUE, "Max nice priority": unix.RLIMIT_NICE,
	"Max open files": unix.RLIMIT_NOFILE, "Max processes": unix.RLIMIT_NPROC, "Max resident set": unix.RLIMIT_RSS,
	"Max realtime priority": unix.RLIMIT_RTPRIO, "Max realtime timeout": unix.RLIMIT_RTTIME,
	"Max pending signals": unix.RLIMIT_SIGPENDING, "Max stack size": unix.RLIMIT_STACK,
}

// parseLimits reads the columns of proc_pid_limits(5). A limit that this
// program does not know is left as it is.
func parseLimits(table string) ([]configs.Rlimit, error) {
	const nameWidth = 26 // of the kernel's format, with the space behind it
	var list []configs.Rlimit
	for line := range strings.Lines(table) {
		if len(line) <= nameWidth {
			return nil, fmt.Errorf("a short line: %q", line)
		}
		kind, ok := limitNames[strings.TrimSpace(line[:nameWidth])]
		if !ok {
			continue
		}
		fields := strings.Fields(line[nameWidth:])
		if len(fields) < 2 {
			return nil, fmt.Errorf("a line without limits: %q", line)
		}
		soft, err := parseLimit(fields[0])
		if err != nil {
			return nil, err
		}
		hard, err := parseLimit(fields[1])
		if err != nil {
			return nil, err
		}
		list = append(list, configs.Rlimit{Type: kind, Soft: soft, Hard: hard})
	}
	return list, nil
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" {
		return unix.RLIM_INFINITY, nil
	}
	return strconv.ParseUint(s, 10, 64)
}
