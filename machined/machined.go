// SPDX-License-Identifier: Apache-2.0

// Package machined registers containers with systemd-machined(8) and removes
// them again.
//
// Registration never decides whether a container runs: a host without
// machined, or without D-Bus (early boot), starts containers all the same, and
// `atomic-launch register --pending` catches up when machined appears. Both
// calls are idempotent and may be repeated after a crash; both end when their
// context does, and at once where nobody can answer.
//
// machined is spoken to over its Varlink socket where there is one (systemd
// 257 and later, once it runs) and over D-Bus otherwise, which starts it. It
// keeps the entry of a container that died for as long as its unit is not
// stopped, and it frees a name only a moment after it was unregistered; Register
// copes with both.
package machined

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/atomic-agent/atomic/internal/paths"
)

// Errors that callers can tell apart.
var (
	// ErrUnavailable is returned where machined cannot be reached, or not yet.
	ErrUnavailable = errors.New("systemd-machined is not available")
	// ErrInvalidName is returned for a name that is not a host name.
	ErrInvalidName = errors.New("not a machine name")
)

// Machine is one container as machined knows it.
type Machine struct {
	// Name is the container's name; it must be a valid host name.
	Name string `json:"name"`
	// Unit is the service whose cgroup holds the leader. machined derives the
	// machine's unit from the leader's cgroup; Unit is used to recognise a
	// stale registration of our own.
	Unit string `json:"unit"`
	// Leader is the PID of the container's init, LeaderPIDFD a pidfd for it or -1.
	Leader      int `json:"leader"`
	LeaderPIDFD int `json:"-"`
	// RootDirectory is the container's root file system on the host.
	RootDirectory string `json:"rootDirectory"`
	// Control is the socket of the machine's control server, "" if there is
	// none; machinectl of systemd 261 and later asks there for a stop, a
	// restart or a pause.
	Control string `json:"control,omitempty"`
	// NetworkInterfaces are host interface indexes that belong to the machine.
	NetworkInterfaces []int `json:"networkInterfaces,omitempty"`
}

// service is the name under which machines appear in `machinectl list`.
const service = "atomic"

// transport is a way to speak to machined.
type transport interface {
	// register fails with errExists if the name is in use.
	register(ctx context.Context, m Machine) error
	// lookup returns a machine's unit and leader, or errNone.
	lookup(ctx context.Context, name string) (unit string, leader int, err error)
	// unregister fails with errNone if there is no such machine. The name is
	// free a moment later.
	unregister(ctx context.Context, name string) error
	close()
}

var (
	errExists = errors.New("machine exists")
	errNone   = errors.New("no such machine")
	// errTaken is returned when the name belongs to a machine of another unit.
	errTaken = errors.New("the name belongs to another machine")
)

// Client registers machines with the machined of one host. Its zero value is
// that of the running host.
type Client struct {
	Host paths.Host
	// Activate makes calls start D-Bus and machined if need be. Without it a
	// service that is not running is not available: systemd listens on its
	// socket long before it can start it, and a container that is ordered
	// before would wait for it in vain.
	Activate bool
}

// connect opens the best transport there is.
func (c Client) connect(ctx context.Context) (transport, error) {
	socket := c.Host.Path("/run/systemd/machine/io.systemd.Machine")
	if c.Activate || c.Running() {
		t, err := dialVarlink(ctx, socket)
		if err == nil {
			return t, nil
		}
	}
	if !c.Activate && !c.running("dbus.service") && !c.running("dbus-broker.service") {
		return nil, fmt.Errorf("%w: D-Bus is not running", ErrUnavailable)
	}
	t, err := dialBus(ctx, c.Host.Path("/run/dbus/system_bus_socket"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if c.Running() {
		return t, nil
	}
	// Any call starts machined, and it listens then where it learns more.
	_, _, _ = t.lookup(ctx, ".host")
	if v, err := dialVarlink(ctx, socket); err == nil {
		t.close()
		return v, nil
	}
	return t, nil
}

// Running reports whether machined has been started.
func (c Client) Running() bool { return c.running("systemd-machined.service") }

// running reports whether a service has been started. systemd keeps the
// invocation of every such unit in a link; a manager that keeps none is not
// asked.
func (c Client) running(unit string) bool {
	units := c.Host.Path("/run/systemd/units")
	if _, err := os.Stat(units); err != nil {
		return true
	}
	_, err := os.Lstat(units + "/invocation:" + unit)
	return err == nil
}

// Register makes a container known, in place of a dead one of the same unit.
func (c Client) Register(ctx context.Context, m Machine) error {
	if !validName(m.Name) {
		return fmt.Errorf("%q: %w", m.Name, ErrInvalidName)
	}
	t, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer t.close()
	return register(ctx, t, m)
}

func register(ctx context.Context, t transport, m Machine) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := t.register(ctx, m)
		if !errors.Is(err, errExists) {
			return err
		}
		unit, leader, err := t.lookup(ctx, m.Name)
		switch {
		case errors.Is(err, errNone): // freed meanwhile
		case err != nil:
			return err
		case unit != m.Unit:
			return fmt.Errorf("%w: %q is that of %s", errTaken, m.Name, unit)
		case leader == m.Leader:
			return nil
		default:
			if err := t.unregister(ctx, m.Name); err != nil && !errors.Is(err, errNone) {
				return err
			}
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("machine name %q is not freed: %w", m.Name, err)
		}
	}
}

// Unregister removes a container that belongs to unit. It is no error if there
// is none, and a machine of another unit is left alone.
func (c Client) Unregister(ctx context.Context, name, unit string) error {
	if !validName(name) {
		return fmt.Errorf("%q: %w", name, ErrInvalidName)
	}
	t, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer t.close()
	return unregister(ctx, t, name, unit)
}

func unregister(ctx context.Context, t transport, name, unit string) error {
	owner, _, err := t.lookup(ctx, name)
	if err == nil && owner == unit {
		err = t.unregister(ctx, name)
	}
	if errors.Is(err, errNone) {
		return nil
	}
	return err
}

// pause gives machined's event loop time to forget a machine.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// validName reports whether machined accepts a name: a host name of at most 64
// characters without a dot at either end.
func validName(name string) bool {
	if name == "" || len(name) > 64 || name == ".host" {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if r != '-' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
				return false
			}
		}
	}
	return true
}
