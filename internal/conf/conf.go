// SPDX-License-Identifier: Apache-2.0

// Package conf reads the host's configuration: /etc/atomic/atomic.conf, then
// every /etc/atomic/atomic.conf.d/*.conf in name order.
//
// The syntax is systemd's: sections, Key=value, whole-line comments. A later
// assignment replaces an earlier one and an empty one restores the default.
// Reading is strict, because a mistyped security setting must not pass for a
// default: an unknown section or key and an impossible value are errors, all
// of them reported at once with file and line. Missing files are no error; a
// host without any has the values of Default.
//
// docs/atomic.conf documents every key.
package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// Policy says what happens when a protection is not available on this host.
type Policy string

// The policies: do not use the protection; use it if possible and say so where
// it is not; do nothing without it.
const (
	Off     Policy = "off"
	Try     Policy = "try"
	Require Policy = "require"
)

// Config is the host's configuration, complete and valid.
type Config struct {
	Store    Store
	TPM      TPM
	Install  Install
	Machined Machined
	Launch   Launch
}

// Store is the section [Store].
type Store struct {
	// Verity says whether the kernel must check every byte of an image.
	Verity Policy
	// Verify is "start" if every start reads and checks all content that the
	// kernel does not check, else "never".
	Verify string
	// MaxMetadata is how much memory the metadata of one image may take while
	// it is stored, in bytes.
	MaxMetadata int64
}

// TPM is the section [TPM].
type TPM struct {
	// Measure says whether every start must be measured.
	Measure Policy
	// Register is the register that is extended, "pcr:N".
	Register string
	// Device is the TPM: a path in /dev, "unix:/path" for the data socket of
	// an emulator, or empty for /dev/tpmrm0.
	Device string
}

// Install is the section [Install].
type Install struct {
	// Keep is how many deployments of one container are kept, at least one.
	Keep int
}

// Machined is the section [Machined].
type Machined struct {
	// Register says whether containers are registered with systemd-machined.
	Register bool
}

// Engine is a way to start containers.
type Engine string

// The engines: by a compiled plan where there is one, or always by the complete
// engine.
const (
	EnginePlan Engine = "plan"
	EngineOCI  Engine = "oci"
)

// Launch is the section [Launch].
type Launch struct {
	// Engine says how containers are started.
	Engine Engine
	// Runtime is the absolute path of an OCI runtime that makes the containers,
	// or empty.
	Runtime string
}

// Default returns the configuration of a host that says nothing.
func Default() *Config {
	return &Config{
		Store:    Store{Verity: Try, Verify: "never", MaxMetadata: 56 << 20},
		TPM:      TPM{Measure: Try, Register: "pcr:8"},
		Install:  Install{Keep: 2},
		Machined: Machined{Register: true},
		Launch:   Launch{Engine: EnginePlan},
	}
}

// Load reads the configuration of a host.
func Load(host paths.Host) (*Config, error) {
	files := []string{host.Config()}
	entries, err := os.ReadDir(host.ConfigDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list configuration: %w", err)
	}
	for _, e := range entries { // sorted by name
		if strings.HasSuffix(e.Name(), ".conf") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(host.ConfigDir(), e.Name()))
		}
	}
	c := Default()
	var problems []error
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		problems = append(problems, c.parse(file, string(data))...)
	}
	if len(problems) > 0 {
		return nil, hint.New(errors.Join(problems...), "all keys are in the comments of the shipped /etc/atomic/atomic.conf")
	}
	return c, nil
}

// parse applies one file's assignments to c and returns all its problems.
func (c *Config) parse(file, text string) []error {
	var problems []error
	section, known := "", false
	n := 0
	for line := range strings.Lines(text) {
		n++
		problem := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("%s:%d: %w", file, n, fmt.Errorf(format, args...)))
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if name, ok := strings.CutPrefix(line, "["); ok {
			section, ok = strings.CutSuffix(name, "]")
			known = ok && sections()[section]
			if !known {
				problem("unknown section %q", line)
			}
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok:
			problem("%q is neither a section nor Key=value", line)
		case section == "":
			problem("%q stands before the first section", name)
		case !known: // reported with its section
		default:
			if err := c.set(section, name, value); err != nil {
				problem("%w", err)
			}
		}
	}
	return problems
}

func (c *Config) set(section, name, value string) error {
	for _, k := range keys {
		if k.section != section || k.name != name {
			continue
		}
		if value == "" {
			k.copy(c, Default())
			return nil
		}
		if err := k.set(c, value); err != nil {
			return fmt.Errorf("%s=%s: %w", name, value, err)
		}
		return nil
	}
	return fmt.Errorf("unknown key %q in [%s]", name, section)
}
