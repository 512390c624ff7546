// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"testing"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

func TestNotifyMode(t *testing.T) {
	root := func(*rspec.Spec) {}
	user := func(s *rspec.Spec) { s.Process.User.UID = 1000 }
	mapped := func(host uint32) func(*rspec.Spec) {
		return func(s *rspec.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, rspec.LinuxNamespace{Type: rspec.UserNamespace})
			s.Linux.UIDMappings = []rspec.LinuxIDMapping{{HostID: host, Size: 10}}
		}
	}
	for name, tt := range map[string]struct {
		kind, watchdog, property string
		change                   func(*rspec.Spec)
		want                     string
	}{
		"simple":                {"simple", "", "", root, "launcher"},
		"no type":               {"", "", "", root, "launcher"},
		"oneshot":               {"oneshot", "5", "", user, "launcher"},
		"notify":                {"notify", "", "", root, "relay"},
		"watchdog":              {"notify", "30s", "", root, "filter"},
		"watchdog off":          {"notify", "0", "", root, "relay"},
		"watchdog never":        {"notify", "infinity", "", root, "relay"},
		"watchdog by property":  {"notify", "", "WatchdogSec=5", root, "filter"},
		"watchdog taken back":   {"notify", "5", "WatchdogSec=0", root, "relay"},
		"reload":                {"notify-reload", "", "", root, "filter"},
		"other user":            {"notify", "30s", "", user, "raw"},
		"mapped root":           {"notify", "", "", mapped(100000), "raw"},
		"root mapped to itself": {"notify", "", "", mapped(0), "relay"},
		"joined user namespace": {"notify", "", "", func(s *rspec.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, rspec.LinuxNamespace{Type: rspec.UserNamespace, Path: "/x"})
		}, "relay"},
		"may gain privileges": {"notify", "", "", func(s *rspec.Spec) { user(s); s.Process.NoNewPrivileges = false }, "relay"},
		"may change its user": {"notify", "", "", func(s *rspec.Spec) {
			user(s)
			s.Process.Capabilities.Bounding = []string{"CAP_SETUID"}
		}, "relay"},
		"every capability": {"notify", "", "", func(s *rspec.Spec) { user(s); s.Process.Capabilities = nil }, "relay"},
		"host's processes": {"notify", "", "", func(s *rspec.Spec) { user(s); s.Linux.Namespaces = nil }, "relay"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &rspec.Spec{
				Process: &rspec.Process{NoNewPrivileges: true, Capabilities: &rspec.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}},
				Linux:   &rspec.Linux{Namespaces: []rspec.LinuxNamespace{{Type: rspec.PIDNamespace}}},
			}
			tt.change(spec)
			r := &renderer{settings: []setting{
				{section: "Service", key: "Type", value: tt.kind}, {section: "Service", key: "WatchdogSec", value: tt.watchdog},
			}}
			if tt.property != "" {
				r.in.Options.Properties = []string{tt.property}
			}
			if got := r.notifyMode(spec); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
