// SPDX-License-Identifier: Apache-2.0

// Package hint attaches to an error the one thing its reader can do about it.
//
// A hint is not part of the message: the program's main prints it on a line of
// its own, after the error. Any error type may offer a hint of its own by
// having a method Hint() string.
package hint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// New returns err with a hint: a full sentence without a final stop, often a
// command to paste. It returns nil if err is nil.
func New(err error, text string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, text}
}

// Root returns err with the hint to be root if it is a lack of permission.
func Root(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return New(err, "run this as root")
	}
	return err
}

// Of returns the outermost hint in err's tree, or "".
func Of(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// Print prints an error for people and, on a line of its own, its hint. Nobody is
// left to be told that it cannot be written.
func Print(w io.Writer, err error) {
	fmt.Fprintf(w, "atomic: error: %v\n", err)
	if h := Of(err); h != "" {
		fmt.Fprintf(w, "atomic: hint: %s\n", h)
	}
}

type hinted struct {
	error
	text string
}

func (h *hinted) Hint() string  { return h.text }
func (h *hinted) Unwrap() error { return h.error }
