// SPDX-License-Identifier: Apache-2.0

// Package templates holds the templates that stand in for files an image does
// not bring: its service unit, its OCI configuration and its tmpfiles.d file.
//
// They are written like those of an image and are substituted by the same
// rules with the same variables (docs/compat.md). The configuration is only
// the frame: unitgen fills in the command, the environment, the user and the
// volumes of the image's own configuration.
package templates

import _ "embed"

// Files as an error message or a permission report names them.
const (
	ServiceFile = "templates/service.template"
	ConfigFile  = "templates/config.json.template"
)

// Service is the unit of an image without /exports/service.template.
//
//go:embed service.template
var Service []byte

// Config is the OCI configuration of an image without one: hardened as far as
// ordinary images bear it.
//
//go:embed config.json.template
var Config []byte
