// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store"
)

// Container is a container as `containers list` shows it.
type Container struct {
	Name       string
	Image      string
	ImageID    string
	Command    string
	Created    time.Time
	State      string // "running", "failed", "inactive", "no service" or "damaged"
	Runtime    string
	Generation int
	Signature  record.Signature
	// Verified says that the kernel verifies the root file system.
	Verified bool
	// Problem says why the container cannot be read; its State is "damaged".
	Problem string
	// Unsettled says that a command was interrupted and the next one settles it.
	Unsettled bool
}

// Containers lists all containers, sorted by name. Whatever is damaged is
// listed as such: one container's state is never a reason not to see another.
func (a *Agent) Containers(ctx context.Context) ([]Container, error) {
	names, err := a.names()
	if err != nil {
		return nil, rootHint(err)
	}
	unsettled := map[string]bool{}
	if list, err := intent.List(a.host.Intents()); err == nil {
		for _, n := range list {
			unsettled[n] = true
		}
	}
	list := make([]Container, 0, len(names))
	units := make([]string, 0, len(names))
	for _, name := range names {
		c := a.container(name)
		c.Unsettled = unsettled[name]
		list = append(list, c)
		units = append(units, name+".service")
	}
	states, err := a.sd.States(ctx, units)
	if err != nil {
		a.log.Warn("ask systemd for states, ignoring", "err", err)
	}
	for i := range list {
		c := &list[i]
		if c.State != "" {
			continue
		}
		switch s := states[c.Name+".service"]; {
		case s.Running():
			c.State = "running"
		case s.Active == "failed":
			c.State = "failed"
		default:
			c.State = "inactive"
		}
	}
	return list, nil
}

func (a *Agent) container(name string) Container {
	c := Container{Name: name, Generation: intent.None}
	d, err := a.current(name)
	if err == nil && d == nil {
		err = os.ErrNotExist
	}
	if err != nil {
		c.State, c.Problem = "damaged", err.Error()
		return c
	}
	c.Image, c.ImageID, c.Runtime = d.rec.Image, d.rec.Revision, d.rec.Runtime
	c.Created, c.Generation = time.Unix(d.rec.Created, 0), d.gen
	c.Signature, c.Verified = d.rec.Atomic.Signature, d.rec.Atomic.Rootfs.Enforced
	c.Command = command(filepath.Join(d.dir(), "config.json"))
	if !d.rec.HasContainerService {
		c.State = "no service"
	}
	return c
}

// command reads what a configuration executes; "" if it says nothing.
func command(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	var config struct {
		Process struct {
			Args []string `json:"args"`
		} `json:"process"`
	}
	if json.Unmarshal(data, &config) != nil {
		return ""
	}
	return strings.Join(config.Process.Args, " ")
}

// Record returns the current record of a container, or ErrNotInstalled.
func (a *Agent) Record(name string) (*record.Record, error) {
	if record.CheckName(name) != nil {
		return nil, notInstalled(name)
	}
	d, err := a.current(name)
	if err != nil {
		return nil, rootHint(err)
	}
	if d == nil {
		return nil, notInstalled(name)
	}
	return d.rec, nil
}

// Image is an image as `images list` shows it.
type Image struct {
	store.ImageInfo
	// Used says that a container is installed from it.
	Used bool
}

// Images lists the images in the store, sorted by name.
func (a *Agent) Images() ([]Image, error) {
	if _, err := os.Lstat(a.host.Store()); os.IsNotExist(err) {
		return nil, nil
	}
	st, err := a.openStore()
	if err != nil {
		return nil, rootHint(err)
	}
	infos, err := st.Images()
	if err != nil {
		return nil, err
	}
	refs, err := st.Refs()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, r := range refs {
		used[r.ManifestDigest] = true
	}
	list := make([]Image, len(infos))
	for i, info := range infos {
		list[i] = Image{ImageInfo: info, Used: used[info.ManifestDigest]}
	}
	return list, nil
}
