// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Notify modes of a record.
const (
	// notifyRelay: the payload notifies a private socket, of which the launcher
	// passes on what cannot harm the host.
	notifyRelay = "relay"
	// notifyLauncher: the payload never notifies; the launcher reports READY=1
	// once it has been executed.
	notifyLauncher = "launcher"
	// notifyFilter: like relay, and afterwards what cannot harm the host passes
	// through atomic-notify@NAME.socket.
	notifyFilter = "filter"
	// notifyRaw: the payload has systemd's own socket. Only install may decide
	// so, for payloads that cannot speak with the host's uid 0.
	notifyRaw = "raw"
)

// hostOnly are the variables of a unit's environment that describe the host or
// the launcher and would be wrong inside. Everything else an administrator
// sets with Environment= reaches the payload.
var hostOnly = []string{
	"PATH", "LANG", "LANGUAGE", "HOME", "LOGNAME", "USER", "SHELL", "PWD", "OLDPWD", "SHLVL", "TERM", "TMPDIR",
	"MANAGERPID", "MANAGERPIDFDID", "SYSTEMD_EXEC_PID", "JOURNAL_STREAM", "PIDFILE", "MAINPID",
	"MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "FDSTORE", "DEBUG_INVOCATION",
	"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY",
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES",
	"GOCOVERDIR", "GOMAXPROCS", "GOTRACEBACK", "GODEBUG", "GOGC", "GOMEMLIMIT",
}

// envInput is what the payload's environment is made of.
type envInput struct {
	config []string // process.env of config.json
	unit   []string // the launcher's own environment

	notify      string // mode
	notifyPath  string // the socket inside, unless the mode is launcher
	privatePIDs bool   // the payload is PID 1
	listen      int    // passed sockets
	credentials string // directory inside, or ""
}

// payloadEnv rewrites the environment for a process that is PID 1 in its own
// namespace: the unit's Environment= wins over config.json, and the variables
// of systemd's protocols name what the payload sees.
func payloadEnv(in envInput) []string {
	env := environment{}
	for _, kv := range in.config {
		env.set(kv)
	}
	unit := environment{}
	for _, kv := range in.unit {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue
		}
		unit.set(kv)
		if !slices.Contains(hostOnly, name) && !strings.HasPrefix(name, "LC_") {
			env.set(kv)
		}
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		env.unset(name)
	}
	if in.notify != notifyLauncher {
		env.set("NOTIFY_SOCKET=" + in.notifyPath)
	}
	if in.notify == notifyFilter || in.notify == notifyRaw {
		if usec := unit.get("WATCHDOG_USEC"); usec != "" {
			env.set("WATCHDOG_USEC=" + usec)
			if in.privatePIDs {
				env.set("WATCHDOG_PID=1")
			}
		}
	}
	if in.listen > 0 && in.privatePIDs {
		env.set("LISTEN_FDS=" + strconv.Itoa(in.listen))
		env.set("LISTEN_PID=1")
		if names := unit.get("LISTEN_FDNAMES"); names != "" {
			env.set("LISTEN_FDNAMES=" + names)
		}
	}
	if in.credentials != "" {
		env.set("CREDENTIALS_DIRECTORY=" + in.credentials)
	}
	return env
}

// environment is a list of NAME=value in which each name occurs once.
type environment []string

func (e environment) index(name string) int {
	return slices.IndexFunc(e, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

func (e environment) get(name string) string {
	if i := e.index(name); i >= 0 {
		return e[i][len(name)+1:]
	}
	return ""
}

func (e *environment) unset(name string) {
	if i := e.index(name); i >= 0 {
		*e = slices.Delete(*e, i, i+1)
	}
}

func (e *environment) set(kv string) {
	name, _, _ := strings.Cut(kv, "=")
	if i := e.index(name); i >= 0 {
		(*e)[i] = kv
		return
	}
	*e = append(*e, kv)
}

// listenFDs are the sockets that systemd passed to the launcher, which the
// creator inherited at the same numbers from 3 on.
func listenFDs(getenv func(string) string, launcher int) ([]*os.File, error) {
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if getenv("LISTEN_FDS") == "" || getenv("LISTEN_PID") != strconv.Itoa(launcher) {
		return nil, nil
	}
	if err != nil || n < 0 || n > 1<<16 {
		return nil, errors.New("read passed sockets: LISTEN_FDS is not a number")
	}
	for fd := 3; fd < 3+n; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return nil, fmt.Errorf("read passed sockets: descriptor %d: %w", fd, err)
		}
	}
	// Not before: whoever collects a file closes it, and these may be others'.
	var files []*os.File
	for fd := 3; fd < 3+n; fd++ {
		files = append(files, os.NewFile(uintptr(fd), "listen"))
	}
	return files, nil
}
