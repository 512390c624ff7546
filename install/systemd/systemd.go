// SPDX-License-Identifier: Apache-2.0

// Package systemd asks the service manager for what installing, updating and
// removing a container needs: reload, enable, disable, start, stop, state.
//
// On the running host it speaks D-Bus on systemd's private socket, which works
// without a bus daemon. Below another root, or on a host that was not booted
// with systemd, units are enabled and disabled as files and there is nothing
// to reload, start or stop.
package systemd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
	"github.com/atomic-agent/atomic/internal/sdbus"
)

// Manager is a connection to the service manager, made when it is first used.
// It is not safe for concurrent use.
type Manager struct {
	root string
	live bool
	conn *dbus.Conn
}

// New returns the manager of a host.
func New(host paths.Host) *Manager {
	m := &Manager{root: host.Path("/")}
	if m.root == "/" {
		_, err := os.Stat("/run/systemd/system") // sd_booted(3)
		m.live = err == nil
	}
	return m
}

// Live reports whether there is a running service manager.
func (m *Manager) Live() bool { return m.live }

// Version returns the major version of the running manager, 0 if there is none.
func (m *Manager) Version(ctx context.Context) (int, error) {
	if !m.live {
		return 0, nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return 0, err
	}
	text, err := c.GetManagerProperty("Version")
	if err != nil {
		return 0, fmt.Errorf("ask systemd for its version: %w", err)
	}
	digits := strings.Trim(text, `"`)
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	version, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("ask systemd for its version: it says %s", text)
	}
	return version, nil
}

// Close ends the connection.
func (m *Manager) Close() {
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

func (m *Manager) bus(ctx context.Context) (*dbus.Conn, error) {
	if m.conn != nil {
		return m.conn, nil
	}
	// The connection outlives the call that makes it.
	conn, err := dbus.NewConnection(func() (*godbus.Conn, error) { return sdbus.Dial(context.WithoutCancel(ctx)) })
	if err != nil {
		return nil, hint.New(err, "run this as root")
	}
	m.conn = conn
	return conn, nil
}

// Reload makes the manager read its unit files again.
func (m *Manager) Reload(ctx context.Context) error {
	if !m.live {
		return nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return err
	}
	if err := c.ReloadContext(ctx); err != nil {
		return fmt.Errorf("reload systemd: %w", err)
	}
	return nil
}

// Enable makes the unit start as its [Install] section says. It is idempotent.
func (m *Manager) Enable(ctx context.Context, unit string) error {
	if !m.live {
		return m.systemctl(ctx, "enable", unit)
	}
	c, err := m.bus(ctx)
	if err != nil {
		return err
	}
	if _, _, err := c.EnableUnitFilesContext(ctx, []string{unit}, false, false); err != nil {
		return fmt.Errorf("enable %s: %w", unit, err)
	}
	return nil
}

// Disable undoes Enable. It is idempotent; a unit that does not exist is
// disabled.
func (m *Manager) Disable(ctx context.Context, unit string) error {
	if !m.live {
		return m.systemctl(ctx, "disable", unit)
	}
	c, err := m.bus(ctx)
	if err != nil {
		return err
	}
	if _, err := c.DisableUnitFilesContext(ctx, []string{unit}, false); err != nil && !noSuchUnit(err) {
		return fmt.Errorf("disable %s: %w", unit, err)
	}
	return nil
}

// systemctl edits the enablement links below a root. A machine without
// systemctl has no use for them.
func (m *Manager) systemctl(ctx context.Context, verb, unit string) error {
	program, err := exec.LookPath("systemctl")
	if err != nil {
		return nil //nolint:nilerr // nothing to enable for
	}
	return run(exec.CommandContext(ctx, program, "--root="+m.root, "--quiet", verb, unit))
}

// Start starts the unit and waits until it is up. A unit that does not come up
// is an error with a hint.
func (m *Manager) Start(ctx context.Context, unit string) error {
	return m.job(ctx, unit, "start", (*dbus.Conn).StartUnitContext)
}

// Stop stops the unit and waits until it is down. A unit that does not exist
// is down. Whoever starts the unit meanwhile, or one that requires it, cancels
// the stop, or makes it fail if a mount is under way; so it is tried again, some
// times.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	var err error
	for range 5 {
		if err = m.job(ctx, unit, "stop", (*dbus.Conn).StopUnitContext); !errors.Is(err, errCrossed) {
			break
		}
	}
	return err
}

// errCrossed is the end of a stop that a start has crossed.
var errCrossed = errors.New("somebody else may be starting it")

type jobFunc func(c *dbus.Conn, ctx context.Context, name, mode string, ch chan<- string) (int, error)

func (m *Manager) job(ctx context.Context, unit, verb string, do jobFunc) error {
	if !m.live {
		return nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return err
	}
	done := make(chan string, 1)
	if _, err := do(c, ctx, unit, "replace", done); err != nil {
		if verb == "stop" && noSuchUnit(err) {
			return nil
		}
		return hint.New(fmt.Errorf("%s %s: %w", verb, unit, err), "see systemctl status "+unit)
	}
	select {
	case result := <-done:
		if result != "done" && result != "skipped" {
			err := fmt.Errorf("%s %s: %s", verb, unit, result)
			if verb == "stop" && (result == "canceled" || result == "failed") {
				err = fmt.Errorf("%w: %w", err, errCrossed)
			}
			return hint.New(err, "see systemctl status "+unit+" and journalctl -u "+unit)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w", verb, unit, ctx.Err())
	}
}

// ResetFailed makes the manager forget that a unit failed.
func (m *Manager) ResetFailed(ctx context.Context, unit string) error {
	if !m.live {
		return nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return err
	}
	if err := c.ResetFailedUnitContext(ctx, unit); err != nil && !noSuchUnit(err) {
		return fmt.Errorf("reset %s: %w", unit, err)
	}
	return nil
}

// State is what the manager knows about a unit.
type State struct {
	// Active is "active", "inactive", "failed", "activating", …; "" if the
	// unit is not loaded.
	Active string
	Sub    string
}

// Running reports whether the unit is up or on its way up.
func (s State) Running() bool {
	return s.Active == "active" || s.Active == "activating" || s.Active == "reloading"
}

// States returns the states of those units that are loaded, in one call.
func (m *Manager) States(ctx context.Context, units []string) (map[string]State, error) {
	states := map[string]State{}
	if !m.live || len(units) == 0 {
		return states, nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return states, err
	}
	list, err := c.ListUnitsByNamesContext(ctx, units)
	if err != nil {
		return states, fmt.Errorf("list units: %w", err)
	}
	for _, u := range list {
		if u.LoadState != "not-found" {
			states[u.Name] = State{Active: u.ActiveState, Sub: u.SubState}
		}
	}
	return states, nil
}

// Run is one run of a service: from its start to its stop or restart.
type Run struct {
	State
	// Invocation identifies the run; Result is why the last one ended.
	Invocation, Result string
}

func (r Run) String() string {
	if r.Result == "success" {
		return r.Active + " (" + r.Sub + ")"
	}
	return r.Active + " (" + r.Sub + "), " + r.Result
}

// Run returns the current or last run of a service.
func (m *Manager) Run(ctx context.Context, service string) (Run, error) {
	var r Run
	if !m.live {
		return r, nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return r, err
	}
	p, err := c.GetAllPropertiesContext(ctx, service)
	if err != nil {
		return r, fmt.Errorf("read state of %s: %w", service, err)
	}
	r.Active, _ = p["ActiveState"].(string)
	r.Sub, _ = p["SubState"].(string)
	r.Result, _ = p["Result"].(string)
	id, _ := p["InvocationID"].([]byte)
	r.Invocation = hex.EncodeToString(id)
	return r, nil
}

// UpOrFailed returns the states of all services that are neither down nor
// unknown to the manager. It is one call, whose answer has nothing about
// services that are merely loaded, and which loads none.
func (m *Manager) UpOrFailed(ctx context.Context) (map[string]State, error) {
	if !m.live {
		return nil, nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return nil, err
	}
	list, err := c.ListUnitsByPatternsContext(ctx,
		[]string{"active", "activating", "deactivating", "reloading", "refreshing", "failed", "maintenance"}, []string{"*.service"})
	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	states := make(map[string]State, len(list))
	for _, u := range list {
		states[u.Name] = State{Active: u.ActiveState, Sub: u.SubState}
	}
	return states, nil
}

// Enabled reports whether the unit is enabled.
func (m *Manager) Enabled(ctx context.Context, unit string) (bool, error) {
	if !m.live {
		program, err := exec.LookPath("systemctl")
		if err != nil {
			return false, nil //nolint:nilerr // nothing is enabled for nobody
		}
		return exec.CommandContext(ctx, program, "--root="+m.root, "--quiet", "is-enabled", unit).Run() == nil, nil
	}
	c, err := m.bus(ctx)
	if err != nil {
		return false, err
	}
	p, err := c.GetUnitPropertyContext(ctx, unit, "UnitFileState")
	if err != nil {
		return false, fmt.Errorf("read state of %s: %w", unit, err)
	}
	return p.Value.Value() == "enabled" || p.Value.Value() == "enabled-runtime", nil
}

// CreateTmpfiles applies a tmpfiles.d(5) file: makes what it asks for.
func (m *Manager) CreateTmpfiles(ctx context.Context, file string) error {
	return m.tmpfiles(ctx, "--create", file)
}

// RemoveTmpfiles removes what a tmpfiles.d(5) file marks for removal.
func (m *Manager) RemoveTmpfiles(ctx context.Context, file string) error {
	return m.tmpfiles(ctx, "--remove", file)
}

func (m *Manager) tmpfiles(ctx context.Context, action, file string) error {
	program, err := exec.LookPath("systemd-tmpfiles")
	if err != nil {
		return nil //nolint:nilerr // a machine without it has no use for its files
	}
	args := []string{action, file}
	if m.root != "/" {
		args = append([]string{"--root=" + m.root}, args...)
	}
	return run(exec.CommandContext(ctx, program, args...))
}

func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.Join(strings.Fields(string(out)), " "))
	}
	return nil
}

func noSuchUnit(err error) bool {
	var e godbus.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Name == "org.freedesktop.systemd1.NoSuchUnit" || e.Name == "org.freedesktop.DBus.Error.FileNotFound" ||
		e.Name == "org.freedesktop.DBus.Error.InvalidArgs" && strings.Contains(e.Error(), "does not exist")
}
