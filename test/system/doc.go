// SPDX-License-Identifier: Apache-2.0

// Package system tests atomic as an administrator uses it. Each *.txtar is a
// testscript (github.com/rogpeppe/go-internal/testscript) with a freshly booted
// bed of its own; README.md describes the headers and commands of the scripts.
package system
