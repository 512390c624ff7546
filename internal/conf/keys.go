// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// key is one key of the configuration file: where it is, how its value is read
// and how it is copied from another configuration.
type key struct {
	section, name string
	set           func(c *Config, value string) error
	copy          func(dst, src *Config)
}

var keys = []key{
	field("Store", "Verity", func(c *Config) *Policy { return &c.Store.Verity }, parsePolicy),
	field("Store", "Verify", func(c *Config) *string { return &c.Store.Verify }, parseVerify),
	field("Store", "MaxMetadata", func(c *Config) *int64 { return &c.Store.MaxMetadata }, parseSize),
	field("TPM", "Measure", func(c *Config) *Policy { return &c.TPM.Measure }, parsePolicy),
	field("TPM", "Register", func(c *Config) *string { return &c.TPM.Register }, parseRegister),
	field("TPM", "Device", func(c *Config) *string { return &c.TPM.Device }, parseDevice),
	field("Install", "Keep", func(c *Config) *int { return &c.Install.Keep }, parseKeep),
	field("Machined", "Register", func(c *Config) *bool { return &c.Machined.Register }, parseBool),
	field("Launch", "Engine", func(c *Config) *Engine { return &c.Launch.Engine }, parseEngine),
	field("Launch", "Runtime", func(c *Config) *string { return &c.Launch.Runtime }, parseRuntime),
}

func field[T any](section, name string, at func(*Config) *T, parse func(string) (T, error)) key {
	return key{
		section: section,
		name:    name,
		set: func(c *Config, value string) error {
			v, err := parse(value)
			if err == nil {
				*at(c) = v
			}
			return err
		},
		copy: func(dst, src *Config) { *at(dst) = *at(src) },
	}
}

func sections() map[string]bool {
	m := map[string]bool{}
	for _, k := range keys {
		m[k.section] = true
	}
	return m
}

func parsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case Off, Try, Require:
		return p, nil
	}
	return "", errors.New("must be off, try or require")
}

// parseSize reads a number of bytes with systemd's suffixes.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMG")
	shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}
	by, ok := shift[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 32)
	if !ok || err != nil || n <= 0 {
		return 0, errors.New("must be a size, for example 64M")
	}
	return n << by, nil
}

func parseVerify(s string) (string, error) {
	if s != "start" && s != "never" {
		return "", errors.New("must be start or never")
	}
	return s, nil
}

// ParseRegister returns the PCR that a Register= value names. Only registers
// that cannot be reset without a reboot and whose other users survive our
// events are allowed: the firmware, IMA and systemd own the rest.
func ParseRegister(s string) (int, error) {
	n, ok := strings.CutPrefix(s, "pcr:")
	switch pcr, err := strconv.Atoi(n); {
	case !ok || err != nil:
		return 0, fmt.Errorf("must be pcr:N")
	case pcr == 8 || pcr >= 12 && pcr <= 14:
		return pcr, nil
	default:
		return 0, fmt.Errorf("PCR %d belongs to another owner or can be reset; use pcr:8 (or 12, 13, 14)", pcr)
	}
}

func parseRegister(s string) (string, error) {
	_, err := ParseRegister(s)
	return s, err
}

func parseDevice(s string) (string, error) {
	if !filepath.IsAbs(strings.TrimPrefix(s, "unix:")) {
		return "", errors.New("must be an absolute path or unix:/path")
	}
	return s, nil
}

func parseEngine(s string) (Engine, error) {
	switch e := Engine(s); e {
	case EnginePlan, EngineOCI:
		return e, nil
	}
	return "", errors.New("must be plan or oci")
}

func parseRuntime(s string) (string, error) {
	if !filepath.IsAbs(s) {
		return "", errors.New("must be an absolute path")
	}
	return filepath.Clean(s), nil
}

func parseKeep(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, errors.New("must be a number from 1")
	}
	return n, nil
}

// parseBool reads what systemd reads as a boolean.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, errors.New("must be yes or no")
}
