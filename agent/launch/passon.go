// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// errNoMountPoint means that the container has no place for a mount of ours.
var errNoMountPoint = errors.New("the container has no tmpfs at /run and no host directory to put them in")

// engineConfig is a container's configuration, in the form that its engine
// takes, as far as it matters for what the unit passes on.
type engineConfig struct {
	env         []string // of config.json
	privatePIDs bool     // the payload is PID 1
	userNS      bool
	// hasTmpfs reports whether the configuration mounts a tmpfs there.
	hasTmpfs func(target string) bool
	// bind adds a bind mount that is only read, with its owners mapped or not.
	bind func(source, target string, idmap bool)
}

// passOn adds the unit's credentials to a container's configuration and returns
// the environment of the payload. listen is the number of the unit's sockets.
func (l Launcher) passOn(d *deployment, c engineConfig, listen int) []string {
	start := &d.rec.Atomic.Start
	in := envInput{
		config: c.env, unit: os.Environ(), notify: start.Notify, notifyPath: start.NotifyPath,
		privatePIDs: c.privatePIDs, listen: listen,
	}
	if in.listen > 0 && !in.privatePIDs {
		l.Log.Warn("a container without its own PID namespace cannot be told its PID, it must find the passed sockets by itself")
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		var err error
		idmap := c.userNS && l.mappable(dir)
		if in.credentials, err = runOf(l.Host, d.name).bindCredentials(c, dir, in.notifyPath, idmap); err != nil {
			l.Log.Warn("cannot pass on the unit's credentials, ignoring", "error", err)
		}
	}
	return payloadEnv(in)
}

// mappable reports whether root of a user namespace can be shown the unit's
// credentials as its own. They are in a tmpfs, but older systemds keep them in a
// ramfs, of which the kernel maps no owners.
func (l Launcher) mappable(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC {
		return true
	}
	l.Log.Warn("nobody in the container's user namespace can read the unit's credentials: this systemd keeps them where owners cannot be mapped")
	return false
}

// bindCredentials makes the unit's credentials, in the directory source, visible
// in a container and returns their directory there. In a user namespace its
// root can read them only if their owners are mapped.
//
// The mount point has to exist already or be below something writable: the host
// directory of a relayed notification socket, or a tmpfs over /run.
func (r runDir) bindCredentials(c engineConfig, source, notifyPath string, idmap bool) (string, error) {
	target := "/run/host/credentials"
	if notifyPath != "" {
		target = path.Join(path.Dir(notifyPath), "credentials")
		if err := os.MkdirAll(r.credentials(), 0o755); err != nil {
			return "", err
		}
	} else if !c.hasTmpfs("/run") {
		return "", errNoMountPoint
	}
	c.bind(source, target, idmap)
	return target, nil
}
