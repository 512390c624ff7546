// SPDX-License-Identifier: Apache-2.0

// Package version holds the version of both binaries.
package version

// Version is set by the linker from the nearest tag.
var Version = "unknown"
