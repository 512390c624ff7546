// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"maps"
	"slices"
	"strings"
)

// Variable is a variable that an image's templates use.
type Variable struct {
	Name string
	// Default is the image's default value. HasDefault is false if the image
	// has none; Host is true if atomic or the host gives the value.
	Default    string
	HasDefault bool
	Host       bool
}

// Variables lists what an image's templates can be filled with, by name:
// everything the contract's `images info` shows. Malformed templates have the
// variables that they have up to their problems.
func Variables(e Exports) []Variable {
	m, _ := ParseManifest(e.Manifest) // problems are Render's to report
	builtin := builtins()
	all := map[string]Variable{}
	for name := range usedVariables(e, m) {
		v := Variable{Name: name}
		v.Default, v.HasDefault = m.DefaultValues[name]
		_, v.Host = builtin[name]
		all[name] = v
	}
	out := make([]Variable, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

// builtins are the names of all variables that a value is always known for.
func builtins() map[string]string {
	all := map[string]string{"UUID": ""}
	maps.Copy(all, hostValues(&Input{}))
	maps.Copy(all, forcedValues(&Input{}))
	return all
}

// use is a place where a template uses a variable.
type use struct {
	file         string
	line, column int
}

// usedVariables maps each variable to the place of its first use.
func usedVariables(e Exports, m Manifest) map[string]use {
	all := map[string]use{}
	add := func(file, src string) {
		for i := 0; i < len(src); {
			j := strings.IndexByte(src[i:], '$')
			if j < 0 {
				return
			}
			i += j
			name, size := placeholder(src[i:])
			if _, seen := all[name]; name != "" && name != "$" && !seen {
				line, column := position(src, i)
				all[name] = use{file, line, column}
			}
			i += max(size, 1)
		}
	}
	if e.ConfigJSON == nil {
		add(configTemplateFile, string(e.ConfigTemplate))
	}
	add(serviceFile, string(e.ServiceTemplate))
	add(tmpfilesFile, string(e.Tmpfiles))
	for _, src := range slices.Sorted(maps.Keys(m.RenameFiles)) {
		add(manifestFile, m.RenameFiles[src])
	}
	for _, f := range e.HostFS {
		if f.Mode.IsRegular() && slices.Contains(m.InstalledFilesTemplate, renamed(f.Path, m.RenameFiles)) {
			add(hostfsDir+f.Path, string(f.Content))
		}
	}
	return all
}
