// SPDX-License-Identifier: Apache-2.0

package unitgen

import "testing"

func TestRestartsLate(t *testing.T) {
	for name, tt := range map[string]struct {
		unit  string
		given []string
		want  bool
	}{
		"never":                    {"RestartSec=1h", nil, false},
		"by default":               {"Restart=always", nil, false},
		"at once":                  {"Restart=always\nRestartSec=0", nil, false},
		"soon":                     {"Restart=on-failure\nRestartSec=400ms", nil, false},
		"late":                     {"Restart=on-failure\nRestartSec=5", nil, true},
		"a span of parts":          {"Restart=on-failure\nRestartSec=1min 30s", nil, true},
		"hours":                    {"Restart=on-failure\nRestartSec=1h", nil, true},
		"later every time":         {"Restart=always\nRestartSteps=5\nRestartMaxDelaySec=30", nil, true},
		"later by the command":     {"Restart=always", []string{"RestartSec=10"}, true},
		"sooner by the command":    {"Restart=always\nRestartSec=10", []string{"RestartSec=100ms"}, false},
		"never, says the command":  {"Restart=always\nRestartSec=10", []string{"Restart=no"}, false},
		"a span that nobody knows": {"Restart=always\nRestartSec=soon", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			var probs Problems
			r := renderer{settings: parseUnit(plain("service", []byte("[Service]\n"+tt.unit+"\n")), &probs)}
			r.in.Options.Properties = tt.given
			if got := r.restartsLate(); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
