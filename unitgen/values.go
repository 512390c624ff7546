// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/atomic-agent/atomic/unitgen/plan"
)

// hostCapabilities is the bounding set of the host; every known capability if
// the caller does not say.
func (h HostFacts) hostCapabilities() []string {
	if h.Capabilities == nil {
		return plan.Capabilities()
	}
	return h.Capabilities
}

// forcedValues are the built-in variables that nobody can override.
func forcedValues(in *Input) map[string]string {
	return map[string]string{
		"DESTDIR":       in.DestDir,
		"NAME":          in.Name,
		"EXEC_START":    execStart(in.Host.Launcher, in.Name),
		"EXEC_STOP":     "",
		"EXEC_STARTPRE": "",
		"EXEC_STOPPOST": "",
		"HOST_UID":      strconv.Itoa(in.Host.UID),
		"HOST_GID":      strconv.Itoa(in.Host.GID),
		"IMAGE_NAME":    in.ImageName,
		"IMAGE_ID":      in.ImageID,
	}
}

// execStart is the command that starts a container. Both engines' programs are
// called in the same way.
func execStart(program, name string) string { return program + " start " + name }

// hostValues are the built-in variables that --set overrides, but an image's
// defaults do not.
func hostValues(in *Input) map[string]string {
	return map[string]string{
		"RUN_DIRECTORY":            "/run",
		"PIDFILE":                  pidFile(in.Name),
		"CONF_DIRECTORY":           "/etc",
		"STATE_DIRECTORY":          "/var/lib",
		"ALL_PROCESS_CAPABILITIES": `"` + strings.Join(in.Host.hostCapabilities(), "\",\n\"") + "\"\n",
		"RUNTIME":                  in.Host.Launcher,
		"ATOMIC":                   in.Host.Agent,
	}
}

// values joins all values in the contract's precedence: forced, --set, host,
// and the image's defaults; UUID alone prefers the image's default, and stays
// what it was when a container is updated.
func values(in *Input, m Manifest) map[string]string {
	all := map[string]string{"UUID": in.Host.UUID}
	maps.Copy(all, m.DefaultValues)
	if old, ok := in.Previous["UUID"]; ok && old != "" {
		all["UUID"] = old
	}
	maps.Copy(all, hostValues(in))
	maps.Copy(all, in.Set)
	maps.Copy(all, forcedValues(in))
	return all
}

// checkValues reports values that cannot be right, and returns warnings for
// those that have no effect.
func checkValues(in *Input, probs *Problems) (warnings []string) {
	forced := forcedValues(in)
	for _, name := range slices.Sorted(maps.Keys(in.Set)) {
		val := in.Set[name]
		if name == "" || identifier(name) != len(name) {
			probs.addf("--set", 0, 0, "Invalid value '%s=%s'.  Expected form NAME=VALUE", name, val)
			continue
		}
		if strings.ContainsRune(val, 0) {
			probs.add(Problem{File: "--set", Variable: name, Text: "contains a NUL byte"})
		}
		if _, ok := forced[name]; ok {
			warnings = append(warnings, name+" is set by atomic itself; --set has no effect on it")
		}
	}
	for _, name := range []string{"CONF_DIRECTORY", "STATE_DIRECTORY", "RUN_DIRECTORY", "PIDFILE"} {
		if val, ok := in.Set[name]; ok && (!path.IsAbs(val) || path.Clean(val) != val) {
			probs.add(Problem{File: "--set", Variable: name, Text: "is not an absolute, clean path"})
		}
	}
	return warnings
}
