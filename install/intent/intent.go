// SPDX-License-Identifier: Apache-2.0

// Package intent reads and writes intent records: what a change of one
// container is about to do to the host, written before the first step and
// removed after the last one.
//
// Whoever finds an intent whose writer is gone settles it: the symlink NAME
// decides. If it names generation To, or the verb is uninstall, the change is
// completed; otherwise it is undone. Each step says what was at its path
// before and what is there afterwards, so that both directions are idempotent
// and leave alone what somebody else wrote there meanwhile.
//
// The format is JSON, one file /var/lib/containers/atomic/.intents/NAME.json
// per container; see docs/formats/intent.md.
package intent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/atomicfile"
)

// Version is the version of the format.
const Version = 1

// None is the generation of a container that is not installed.
const None = -1

// The verbs that write intents.
const (
	Install   = "install"
	Update    = "update"
	Rollback  = "rollback"
	Uninstall = "uninstall"
)

// Intent is one change of one container.
type Intent struct {
	Version int    `json:"version"`
	Verb    string `json:"verb"`
	Name    string `json:"name"`
	// From and To are the generations that were and will be current; None (-1)
	// means not installed.
	From int `json:"from"`
	To   int `json:"to"`
	// Fresh says that generation To is made by this change and is removed if
	// the change is undone.
	Fresh bool `json:"fresh"`
	// Boot is the kernel's boot ID; Active and Enabled are the service's state
	// before.
	Boot    string `json:"boot,omitempty"`
	Active  bool   `json:"active"`
	Enabled bool   `json:"enabled"`
	// Dependents are the units that ran before and stop with the service;
	// they are started with it again.
	Dependents []string `json:"dependents,omitempty"`
	// Settle is how many seconds the service must stay up to be kept;
	// Uncontrolled says that it is kept in any case.
	Settle       int  `json:"settle,omitempty"`
	Uncontrolled bool `json:"uncontrolled,omitempty"`
	// Steps are the changes outside the deployment's directory, in order.
	Steps []Step `json:"steps"`
}

// The kinds of steps.
const (
	File    = "file"
	Symlink = "symlink"
	Dir     = "dir"
)

// Step is the change of one path on the host.
type Step struct {
	Path string `json:"path"`
	Kind string `json:"kind"`
	// Before and After are the SHA-256 in hex of the content (of the target,
	// for a symlink; "0" for a directory); "" means that nothing is there.
	Before string `json:"before"`
	After  string `json:"after"`
	// Straight steps are not taken if a symlink leads to their directory: the
	// container may have put it there.
	Straight bool `json:"straight,omitempty"`
}

// File name of a container's intent in dir.
func file(dir, name string) string { return filepath.Join(dir, name+".json") }

// Write makes the intent durable. It replaces an older one of the same
// container.
func Write(dir string, in *Intent) error {
	in.Version = Version
	if err := in.check(); err != nil {
		return fmt.Errorf("write intent: %w", err)
	}
	data, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return fmt.Errorf("write intent: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write intent: %w", err)
	}
	if err := atomicfile.Replace(file(dir, in.Name), append(data, '\n'), atomicfile.Own(0o600)); err != nil {
		return fmt.Errorf("write intent: %w", err)
	}
	return nil
}

// Read returns the intent of a container, or nil if there is none.
func Read(dir, name string) (*Intent, error) {
	data, err := os.ReadFile(file(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read intent: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	in := &Intent{}
	if err := dec.Decode(in); err != nil {
		return nil, fmt.Errorf("parse intent %s: %w", file(dir, name), err)
	}
	if in.Name != name {
		return nil, fmt.Errorf("parse intent %s: it is about %q", file(dir, name), in.Name)
	}
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("parse intent %s: %w", file(dir, name), err)
	}
	return in, nil
}

// Remove ends a change.
func Remove(dir, name string) error {
	if err := atomicfile.Remove(file(dir, name)); err != nil {
		return fmt.Errorf("remove intent: %w", err)
	}
	return nil
}

// List returns the names of the containers that have an intent.
func List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list intents: %w", err)
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if ok && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names, nil
}

func (in *Intent) check() error {
	if in.Version != Version {
		return fmt.Errorf("version %d is unknown, want %d", in.Version, Version)
	}
	if err := record.CheckName(in.Name); err != nil {
		return err
	}
	if in.From < None || in.To < None || in.From == in.To {
		return fmt.Errorf("generations %d and %d are no change", in.From, in.To)
	}
	switch in.Verb {
	case Install, Update, Rollback, Uninstall:
	default:
		return fmt.Errorf("verb %q is unknown", in.Verb)
	}
	if in.Settle < 0 {
		return fmt.Errorf("settle is %d seconds", in.Settle)
	}
	if (in.Verb == Uninstall) != (in.To == None) {
		return fmt.Errorf("verb %q does not lead to generation %d", in.Verb, in.To)
	}
	for _, s := range in.Steps {
		if !path.IsAbs(s.Path) || path.Clean(s.Path) != s.Path {
			return fmt.Errorf("step %q is not a clean absolute path", s.Path)
		}
		if s.Kind != File && s.Kind != Symlink && s.Kind != Dir {
			return fmt.Errorf("step %q: kind %q is unknown", s.Path, s.Kind)
		}
	}
	return nil
}
