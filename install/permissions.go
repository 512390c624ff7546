// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/unitgen"
)

// permissionsFile holds a deployment's permission report, in its directory.
const permissionsFile = "permissions.json"

// Report is what an image asks of the host.
type Report struct {
	Image string `json:"image"`
	// Container is the container whose deployment the report is about, empty
	// if it is about an image.
	Container   string               `json:"container,omitempty"`
	Permissions []unitgen.Permission `json:"permissions"`
	// Grants are what the administrator allowed the container, Missing what an
	// image needs to be installed.
	Grants  []string `json:"grants"`
	Missing []string `json:"missing"`
}

// Permissions reports what a container asks of the host; or what an image in
// the store would ask, with its own name and its own values.
func (a *Agent) Permissions(ctx context.Context, what string) (*Report, error) {
	d, err := a.deployed(what)
	if err == nil {
		list, err := d.permissions()
		if err != nil {
			return nil, err
		}
		return &Report{Image: d.rec.Image, Container: what, Permissions: list, Grants: append([]string{}, d.rec.Atomic.Grants...), Missing: []string{}}, nil
	}
	if !errors.Is(err, ErrNotInstalled) {
		return nil, err
	}
	img, err := a.FindImage(what)
	if err != nil {
		return nil, err
	}
	out, err := a.renderImage(ctx, img.Name, img.ManifestDigest)
	if err != nil {
		return nil, err
	}
	return &Report{Image: img.Name, Permissions: out.Permissions, Grants: []string{}, Missing: append([]string{}, out.Missing...)}, nil
}

// renderImage renders an image in the store as an installation without options
// would.
func (a *Agent) renderImage(ctx context.Context, name, digest string) (*unitgen.Output, error) {
	img, done, err := a.loadImage(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer done()
	config, err := parseImageConfig(img)
	if err != nil {
		return nil, err
	}
	p := &prepared{pulled: &image.Image{Name: name, Config: *config}, img: img}
	n, err := image.ParseName(name)
	if err != nil {
		return nil, err
	}
	container, err := n.ContainerName()
	if err != nil {
		return nil, err
	}
	p.d = &deployment{host: a.host, name: container}
	in, err := a.input(ctx, p, request{name: container})
	if err != nil {
		return nil, err
	}
	out, err := unitgen.Render(*in)
	if err != nil {
		return nil, hint.New(err, "what it asks for may depend on values: atomic install --display --set NAME=VALUE "+name)
	}
	return out, nil
}

// permissions reads a deployment's permission report.
func (d *deployment) permissions() ([]unitgen.Permission, error) {
	data, err := os.ReadFile(filepath.Join(d.dir(), permissionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return []unitgen.Permission{}, nil // made before there were reports
	}
	list := []unitgen.Permission{}
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read permissions of %s.%d: %w", d.name, d.gen, err)
	}
	return list, nil
}

// sayDifference tells the administrator what a new deployment asks for that
// the current one does not, and the other way round.
func (a *Agent) sayDifference(from *deployment, p *prepared) {
	was, err := from.permissions()
	if err != nil {
		a.say("Warning: %v", err)
		return
	}
	without := func(list []unitgen.Permission) func(unitgen.Permission) bool {
		return func(q unitgen.Permission) bool {
			return !slices.ContainsFunc(list, func(o unitgen.Permission) bool { return o.Grant == q.Grant })
		}
	}
	for _, q := range p.out.Permissions {
		if without(was)(q) {
			a.say("New permission: %s (%s)", q.Grant, q.Why)
		}
	}
	for _, q := range was {
		if without(p.out.Permissions)(q) {
			a.say("No longer asked for: %s", q.Grant)
		}
	}
}
