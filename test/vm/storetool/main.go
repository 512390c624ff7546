// SPDX-License-Identifier: Apache-2.0

// The storetool exercises the image store inside a virtual machine, for the
// tests outside that cut its power and tamper with its disk.
//
//	storetool churn DIR SEED     commit and remove images until killed
//	storetool check DIR MNT      read every image of the store in full
//	storetool put DIR TEXT...    one image with files of these contents
//	storetool mount DIR MNT IMAGE
package main

import (
	"fmt"
	"os"
)

const ref = "churn"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "storetool: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "churn":
		return churn(args[1], args[2])
	case len(args) == 3 && args[0] == "check":
		return check(args[1], args[2])
	case len(args) > 2 && args[0] == "put":
		return put(args[1], args[2:])
	case len(args) == 4 && args[0] == "mount":
		return mountImage(args[1], args[2], args[3])
	}
	return fmt.Errorf("unknown arguments %q", args)
}
