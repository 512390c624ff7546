// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atomic-agent/atomic/internal/hint"
)

const nameHint = "choose a name with --name: letters, digits, '-' and '.', at most 64, for example etcd-3.5"

// ValidName reports whether name can name a container. It becomes part of file
// names, of unit names and is the machine name that systemd-machined knows, so
// it has to be a host name.
func ValidName(name string) error {
	fail := func(text string) error {
		return hint.New(fmt.Errorf("container name %q: %w", name, errors.New(text)), nameHint)
	}
	switch {
	case name == "":
		return fail("is empty")
	case len(name) > 64:
		return fail("is longer than 64 characters")
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return fail("is not a host name")
		}
	}
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.':
		default:
			return fail(fmt.Sprintf("contains %q", c))
		}
	}
	return nil
}

// DropInName is the drop-in of a container's unit, below a directory of units.
func DropInName(name string) string { return name + ".service.d/50-atomic.conf" }

// BusSocketName is the socket of a container's login bus, each connection to
// which BusServiceName answers.
func BusSocketName(name string) string { return name + "-bus.socket" }

// BusServiceName is a template, of which systemd makes an instance a connection.
func BusServiceName(name string) string { return name + "-bus@.service" }

// HealthTimerName is the timer that runs the health check of a container, which
// is HealthServiceName.
func HealthTimerName(name string) string { return "atomic-health@" + name + ".timer" }

// HealthServiceName is an instance of a unit that is installed with atomic.
func HealthServiceName(name string) string { return "atomic-health@" + name + ".service" }
