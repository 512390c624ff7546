// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unsafe"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
)

// noCgroup is a cgroup that does not exist, for libcontainer.Create: it
// insists on a manager of its own, looks whether its cgroup is empty, and has
// that manager replaced before it can write anything.
const noCgroup = "/atomic-launch.none"

// unitCgroup is the cgroup manager of a container that lives in its unit's own
// cgroup. The cgroup is systemd's: limits are unit properties, and nothing here
// ever writes to it except to add a process that joins the container.
type unitCgroup struct {
	path string // absolute, below cgroupRoot
}

var _ cgroups.Manager = unitCgroup{}

func (m unitCgroup) Apply(int) error              { return nil }
func (m unitCgroup) Set(*cgroups.Resources) error { return nil }
func (m unitCgroup) Destroy() error               { return nil }
func (m unitCgroup) Path(string) string           { return m.path }
func (m unitCgroup) GetPaths() map[string]string  { return map[string]string{"": m.path} }
func (m unitCgroup) GetPids() ([]int, error)      { return cgroups.GetPids(m.path) }
func (m unitCgroup) GetAllPids() ([]int, error)   { return cgroups.GetAllPids(m.path) }
func (m unitCgroup) Freeze(cgroups.FreezerState) error {
	return errors.New("freezing is systemd's: use systemctl freeze")
}

// Exists says no for the empty path. libcontainer kills everything in an
// existing cgroup of a container without a PID namespace of its own when it
// destroys the container, which would include the caller.
func (m unitCgroup) Exists() bool { return m.path != "" && cgroups.PathExists(m.path) }

func (m unitCgroup) GetStats() (*cgroups.Stats, error) { return cgroups.NewStats(), nil }

func (m unitCgroup) Stats(*cgroups.StatsOptions) (*cgroups.Stats, error) {
	return cgroups.NewStats(), nil
}

func (m unitCgroup) GetCgroups() (*cgroups.Cgroup, error) {
	return &cgroups.Cgroup{Path: strings.TrimPrefix(m.path, cgroupRoot), Resources: &cgroups.Resources{}}, nil
}

func (m unitCgroup) GetFreezerState() (cgroups.FreezerState, error) {
	data, err := os.ReadFile(filepath.Join(m.path, "cgroup.freeze"))
	if err == nil && strings.TrimSpace(string(data)) == "1" {
		return cgroups.Frozen, nil
	}
	return cgroups.Thawed, nil
}

// AddPid serves processes that join a running container.
func (m unitCgroup) AddPid(sub string, pid int) error {
	if sub != "" {
		return fmt.Errorf("join cgroup: sub-cgroup %q of a unit is not ours", sub)
	}
	return cgroups.WriteCgroupProc(m.path, pid)
}

// OOMKillCount lets libcontainer explain an init that was killed for want of
// memory. Without a memory controller there is nothing to report.
func (m unitCgroup) OOMKillCount() (uint64, error) {
	data, _ := os.ReadFile(filepath.Join(m.path, "memory.events"))
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			return strconv.ParseUint(n, 10, 64)
		}
	}
	return 0, nil
}

// setCgroupManager replaces the manager that libcontainer made for itself,
// which would enable every controller from the root of the hierarchy down and
// move init out of the unit. libcontainer offers no way to pass one in, so this
// sets its unexported field; a test fails if the field changes.
func setCgroupManager(c *libcontainer.Container, m cgroups.Manager) error {
	field := reflect.ValueOf(c).Elem().FieldByName("cgroupManager")
	if !field.IsValid() || field.Type() != reflect.TypeFor[cgroups.Manager]() {
		return errors.New("replace cgroup manager: libcontainer has changed")
	}
	*(*cgroups.Manager)(unsafe.Pointer(field.UnsafeAddr())) = m
	return nil
}
