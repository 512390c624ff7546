// SPDX-License-Identifier: Apache-2.0

// The storetool exercises the image store inside a virtual machine, for the
// tests outside that cut its power and tamper with its disk. POLICY is the
// store's verity policy, "require" or "off".
//
//	storetool churn POLICY DIR SEED      commit, remove and collect until killed
//	storetool check POLICY DIR MNT       read every image of the store in full
//	storetool put POLICY DIR TEXT...     commit one image of files that repeat a text
//	storetool mount POLICY DIR MNT IMAGE
package main

import (
	"fmt"
	"os"

	"github.com/atomic-agent/atomic/install/store"
)

const ref = "churn"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "storetool: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("too few arguments: %q", args)
	}
	verb, t, rest := args[0], tool{policy: args[1], dir: args[2]}, args[3:]
	switch {
	case verb == "churn" && len(rest) == 1:
		return t.churn(rest[0])
	case verb == "check" && len(rest) == 1:
		return t.check(rest[0])
	case verb == "put":
		return t.put(rest)
	case verb == "mount" && len(rest) == 2:
		return t.mount(rest[0], rest[1])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

// tool is one store.
type tool struct{ policy, dir string }

func (t tool) open() (*store.Store, error) {
	return store.Open(t.dir, store.Options{Verity: t.policy})
}
