// SPDX-License-Identifier: Apache-2.0

package machined

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atomic-agent/atomic/internal/paths"
)

// fake is machined as far as names go: an unregistered name is freed only
// after it was asked for a few more times.
type fake struct {
	machines map[string]Machine
	dying    map[string]int
	calls    []string
	fail     error
}

func (f *fake) close() {}

func (f *fake) register(_ context.Context, m Machine) error {
	f.calls = append(f.calls, "register")
	if f.fail != nil {
		return f.fail
	}
	if n := f.dying[m.Name]; n > 0 {
		f.dying[m.Name]--
		return errExists
	}
	if _, ok := f.machines[m.Name]; ok {
		return errExists
	}
	f.machines[m.Name] = m
	return nil
}

func (f *fake) lookup(_ context.Context, name string) (string, int, error) {
	f.calls = append(f.calls, "lookup")
	m, ok := f.machines[name]
	if !ok {
		return "", 0, errNone
	}
	return m.Unit, m.Leader, nil
}

func (f *fake) unregister(_ context.Context, name string) error {
	f.calls = append(f.calls, "unregister")
	if _, ok := f.machines[name]; !ok {
		return errNone
	}
	delete(f.machines, name)
	f.dying[name] = 2
	return nil
}

func newFake(machines ...Machine) *fake {
	f := &fake{machines: map[string]Machine{}, dying: map[string]int{}}
	for _, m := range machines {
		f.machines[m.Name] = m
	}
	return f
}

func TestRegister(t *testing.T) {
	ours := Machine{Name: "etcd", Unit: "etcd.service", Leader: 10}
	for name, tt := range map[string]struct {
		there *fake
		want  error
		calls string
	}{
		"free":              {newFake(), nil, "register"},
		"twice":             {newFake(ours), nil, "register lookup"},
		"dead predecessor":  {newFake(Machine{Name: "etcd", Unit: "etcd.service", Leader: 9}), nil, "register lookup unregister register lookup register lookup register"},
		"another's":         {newFake(Machine{Name: "etcd", Unit: "machine-etcd.scope", Leader: 9}), errTaken, "register lookup"},
		"others are others": {newFake(Machine{Name: "flanneld", Unit: "flanneld.service", Leader: 9}), nil, "register"},
	} {
		t.Run(name, func(t *testing.T) {
			err := register(t.Context(), tt.there, ours)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if calls := strings.Join(tt.there.calls, " "); calls != tt.calls {
				t.Errorf("calls are %s", calls)
			}
			if tt.want == nil && tt.there.machines["etcd"].Leader != 10 {
				t.Errorf("registered is %+v", tt.there.machines["etcd"])
			}
		})
	}
}

func TestRegisterEndsWithItsContext(t *testing.T) {
	f := newFake()
	f.dying["etcd"] = 1 << 30
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := register(ctx, f, Machine{Name: "etcd"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRegisterReportsFailure(t *testing.T) {
	f := newFake()
	f.fail = errors.New("no")
	if err := register(t.Context(), f, Machine{Name: "etcd"}); !errors.Is(err, f.fail) {
		t.Errorf("got %v", err)
	}
}

func TestUnregister(t *testing.T) {
	for name, tt := range map[string]struct {
		unit string
		want bool // still there
	}{
		"ours":      {"etcd.service", false},
		"another's": {"other.service", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(Machine{Name: "etcd", Unit: tt.unit})
			for range 2 {
				if err := unregister(t.Context(), f, "etcd", "etcd.service"); err != nil {
					t.Fatal(err)
				}
			}
			if _, there := f.machines["etcd"]; there != tt.want {
				t.Errorf("still there: %t", there)
			}
		})
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"etcd": true, "etcd-3": true, "a.b": true, "A1": true, strings.Repeat("a", 64): true,
		"": false, "a_b": false, "-a": false, "a-": false, ".a": false, "a.": false, "a..b": false, "a b": false,
		"é": false, ".host": false, strings.Repeat("a", 65): false,
	} {
		if got := validName(name); got != want {
			t.Errorf("validName(%q) = %t", name, got)
		}
	}
	if err := (Client{}).Register(t.Context(), Machine{Name: "a_b"}); !errors.Is(err, ErrInvalidName) {
		t.Errorf("registered a_b: %v", err)
	}
}

// A host in early boot has the sockets, but nobody behind them.
func TestUnavailable(t *testing.T) {
	host := paths.Host{Root: t.TempDir()}
	for _, dir := range []string{"/run/systemd/units", "/run/systemd/machine", "/run/dbus"} {
		if err := os.MkdirAll(host.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var lc net.ListenConfig
	for _, socket := range []string{"/run/systemd/machine/io.systemd.Machine", "/run/dbus/system_bus_socket"} {
		l, err := lc.Listen(t.Context(), "unix", host.Path(socket))
		if err != nil {
			t.Skip(err)
		}
		defer func() { _ = l.Close() }()
	}
	c := Client{Host: host}
	if err := c.Register(t.Context(), Machine{Name: "etcd"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("register: %v", err)
	}
	if err := c.Unregister(t.Context(), "etcd", "etcd.service"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("unregister: %v", err)
	}
	// Whoever insists waits, but not longer than he wants.
	c.Activate = true
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Register(ctx, Machine{Name: "etcd"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("nobody answers: %v", err)
	}
}

// serve answers requests on a Varlink socket.
func serve(t *testing.T, answer func(method string, parameters map[string]any) string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for in := bufio.NewReader(conn); ; {
			data, err := in.ReadBytes(0)
			if err != nil {
				return
			}
			var request struct {
				Method     string
				Parameters map[string]any
			}
			if json.Unmarshal(data[:len(data)-1], &request) != nil {
				return
			}
			fmt.Fprintf(conn, "%s\x00", answer(request.Method, request.Parameters))
		}
	}()
	return socket
}

func TestVarlink(t *testing.T) {
	socket := serve(t, func(method string, p map[string]any) string {
		switch {
		case method == "io.systemd.Machine.Register" && p["name"] == "new" && p["class"] == "container" && p["leader"] == 10.0:
			return `{}`
		case method == "io.systemd.Machine.Register":
			return `{"error":"io.systemd.Machine.MachineExists"}`
		case method == "io.systemd.Machine.List" && p["name"] == "etcd":
			return `{"parameters":{"name":"etcd","unit":"etcd.service","leader":{"pid":7,"pidfdId":1}}}`
		case method == "io.systemd.Machine.Unregister":
			return `{"parameters":{}}`
		}
		return `{"error":"io.systemd.Machine.NoSuchMachine","parameters":{}}`
	})
	v, err := dialVarlink(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	if err := v.register(t.Context(), Machine{Name: "new", Leader: 10}); err != nil {
		t.Errorf("register: %v", err)
	}
	if err := v.register(t.Context(), Machine{Name: "old"}); !errors.Is(err, errExists) {
		t.Errorf("register again: %v", err)
	}
	if unit, leader, err := v.lookup(t.Context(), "etcd"); unit != "etcd.service" || leader != 7 || err != nil {
		t.Errorf("lookup: %q, %d, %v", unit, leader, err)
	}
	if _, _, err := v.lookup(t.Context(), "none"); !errors.Is(err, errNone) {
		t.Errorf("lookup of nothing: %v", err)
	}
	if err := v.unregister(t.Context(), "etcd"); err != nil {
		t.Errorf("unregister: %v", err)
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte(`{"parameters":{"unit":"x","leader":{"pid":1}}}`))
	f.Add([]byte(`{"error":"io.systemd.Machine.NoSuchMachine"}`))
	f.Add([]byte(`{"parameters":[]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var out struct {
			Leader json.RawMessage `json:"leader"`
		}
		if parseReply(data, &out) == nil {
			leaderOf(out.Leader)
		}
	})
}
