// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
)

// Options say what bed to boot. The zero value is a plain trixie.
type Options struct {
	// Suite is the Debian release; empty means trixie.
	Suite string
	// Variant is the root file system's variant; empty means Base.
	Variant string
	// Name identifies the bed among the living ones and is its host name;
	// empty means a random one.
	Name string
	// Binds are further bind mounts into the bed.
	Binds []Bind
	// Layers are directories laid over the root file system, the topmost
	// first; the bed reads them and never writes them.
	Layers []string
	// Product installs atomic (`make install` of the repository, which must
	// have been built) into the bed, with the tests' configuration.
	Product bool
	// TPM starts a software TPM whose data socket is TPMSocket in the bed.
	TPM bool
	// Registry is a directory with a registry's storage. If it is not empty the
	// bed serves it, writable for as long as the bed lives, at RegistryHost.
	// RegistryEmpty serves an empty registry.
	Registry string
	// Log receives progress messages; nil discards them.
	Log io.Writer
}

// RegistryEmpty is the value of Options.Registry for a registry without images.
const RegistryEmpty = "empty"

// Bind is one bind mount: Source on the machine, Target in the bed.
type Bind struct {
	Source, Target string
	ReadOnly       bool
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$`)

// withDefaults fills what was left empty and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Suite == "" {
		o.Suite = "trixie"
	}
	if o.Variant == "" {
		o.Variant = Base
	}
	if o.Name == "" {
		var b [4]byte
		rand.Read(b[:])
		o.Name = o.Suite + "-" + hex.EncodeToString(b[:])
	}
	if !validName.MatchString(o.Name) {
		return o, fmt.Errorf("bed name %q: want lower-case letters, digits and dashes", o.Name)
	}
	for _, b := range o.Binds {
		if !filepath.IsAbs(b.Source) || !filepath.IsAbs(b.Target) {
			return o, fmt.Errorf("bind %q to %q: both must be absolute", b.Source, b.Target)
		}
		if strings.ContainsAny(b.Source+b.Target, "\t\n") {
			return o, fmt.Errorf("bind %q to %q: tab or newline in a path", b.Source, b.Target)
		}
	}
	for _, l := range o.Layers {
		if !filepath.IsAbs(l) || strings.ContainsAny(l, ":,\\") {
			return o, fmt.Errorf("layer %q: want an absolute path without ':', ',' and '\\'", l)
		}
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	return o, nil
}
