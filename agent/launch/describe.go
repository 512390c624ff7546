// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
)

// describe writes libcontainer's state of a running container that was started
// by its plan, so that processes can join it. The start itself needs none, so
// whoever joins first pays for it.
func (l Launcher) describe(d *deployment) error {
	run := runOf(l.Host, d.name)
	init, err := readInit(run.init())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // started by the other engine, or not running
	}
	if err != nil {
		return err
	}
	alive, err := initAlive(run.init())
	if err != nil || !alive {
		return err
	}
	file := filepath.Join(run.container(d.name), "state.json")
	if there, err := readInit(file); err == nil && there.PID == init.PID && there.Start == init.Start {
		return nil
	}
	state, err := d.state(init)
	if err != nil {
		return err
	}
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o711); err != nil {
		return err
	}
	return replace(file, data)
}

// state is what libcontainer would know if it had started init itself.
func (d *deployment) state(init initState) (*libcontainer.State, error) {
	if err := os.Chdir(d.dir); err != nil {
		return nil, err
	}
	spec, err := d.parseSpec()
	if err != nil {
		return nil, err
	}
	cfg, err := d.convert(spec, nil)
	if err != nil {
		return nil, err
	}
	unit, err := ownCgroup(init.PID)
	if err != nil {
		return nil, err
	}
	state := &libcontainer.State{
		BaseState: libcontainer.BaseState{
			ID: d.name, InitProcessPid: init.PID, InitProcessStartTime: init.Start,
			Created: time.Now().UTC(), Config: *cfg,
		},
		CgroupPaths:    map[string]string{"": unit},
		NamespacePaths: map[configs.NamespaceType]string{},
	}
	for _, kind := range configs.NamespaceTypes() {
		if configs.IsNamespaceSupported(kind) {
			ns := configs.Namespace{Type: kind}
			state.NamespacePaths[kind] = ns.GetPath(init.PID)
		}
	}
	return state, nil
}
