// SPDX-License-Identifier: Apache-2.0

// Package oci compares what containers get to see: the same config.json is run
// by each of our engines, by runc and by crun in one bed, and a static program
// inside (probe/probe.c) prints everything a runtime decides about a process.
//
// TestDifferential runs every entry of cases with every entry of engines and
// compares each with the first, our reference. A difference that no row of
// docs/compat-oci.md lists is a failure; so is a row that nothing needs any
// more. The versions of runc and crun are those of the suite in which the test
// runs, forky by default.
//
//	make build
//	go test ./test/oci                                  # all of it
//	go test ./test/oci -run 'TestDifferential/mount'    # some cases; rows are then not checked for need
//	go test ./test/oci -engines oci,plan                # some engines
//
// TestEscapes runs configurations and root file systems with which containers
// have left other runtimes, most of them named by their CVE, with our engines:
// each must be refused or harmless, and the host untouched.
//
// # A further engine
//
// Add an entry to engines: its name, the command that runs a bundle in the
// foreground, and refuses, a part of the message by which it declines a
// configuration that is not its business. A case it declines is not compared.
// With -v the test says which those are.
package oci
