// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestPayloadEnv(t *testing.T) {
	for name, tt := range map[string]struct {
		in   envInput
		want string
	}{
		"config only": {
			envInput{config: []string{"A=1", "B=2"}, notify: notifyLauncher},
			"A=1 B=2",
		},
		"the unit wins and adds": {
			envInput{config: []string{"A=1", "B=2"}, unit: []string{"B=unit", "C=3", "INVOCATION_ID=x"}, notify: notifyLauncher},
			"A=1 B=unit C=3 INVOCATION_ID=x",
		},
		"what describes the host stays outside": {
			envInput{
				config: []string{"PATH=/bin", "LANG=de_DE.UTF-8"},
				unit: []string{
					"PATH=/usr/local/sbin", "LANG=C", "LC_ALL=C", "JOURNAL_STREAM=8:1", "PIDFILE=/run/x", "RUNTIME_DIRECTORY=/run/atomic/a",
					"SYSTEMD_EXEC_PID=77", "MEMORY_PRESSURE_WATCH=/sys/x", "CREDENTIALS_DIRECTORY=/run/credentials/a.service",
				},
				notify: notifyLauncher,
			},
			"PATH=/bin LANG=de_DE.UTF-8",
		},
		"a name occurs once": {
			envInput{config: []string{"A=1", "A=2"}, unit: []string{"A=3"}, notify: notifyLauncher},
			"A=3",
		},
		"relay": {
			envInput{
				config: []string{"NOTIFY_SOCKET=/elsewhere"}, unit: []string{"NOTIFY_SOCKET=/run/systemd/notify", "WATCHDOG_USEC=5", "WATCHDOG_PID=9"},
				notify: notifyRelay, notifyPath: "/run/host/notify", privatePIDs: true,
			},
			"NOTIFY_SOCKET=/run/host/notify",
		},
		"filter": {
			envInput{
				unit:   []string{"NOTIFY_SOCKET=/run/systemd/notify", "WATCHDOG_USEC=5", "WATCHDOG_PID=9"},
				notify: notifyFilter, notifyPath: "/run/host/notify", privatePIDs: true,
			},
			"NOTIFY_SOCKET=/run/host/notify WATCHDOG_USEC=5 WATCHDOG_PID=1",
		},
		"raw, in the host's PID namespace": {
			envInput{unit: []string{"WATCHDOG_USEC=5", "WATCHDOG_PID=9"}, notify: notifyRaw, notifyPath: "/.host/notify"},
			"NOTIFY_SOCKET=/.host/notify WATCHDOG_USEC=5",
		},
		"launcher notifies": {
			envInput{config: []string{"NOTIFY_SOCKET=/x"}, unit: []string{"NOTIFY_SOCKET=/run/systemd/notify"}, notify: notifyLauncher},
			"",
		},
		"sockets": {
			envInput{
				unit:   []string{"LISTEN_FDS=2", "LISTEN_PID=55", "LISTEN_PIDFDID=7", "LISTEN_FDNAMES=a:b"},
				notify: notifyLauncher, privatePIDs: true, listen: 2,
			},
			"LISTEN_FDS=2 LISTEN_PID=1 LISTEN_FDNAMES=a:b",
		},
		"sockets without a PID namespace": {
			envInput{unit: []string{"LISTEN_FDS=2", "LISTEN_PID=55"}, notify: notifyLauncher, listen: 2},
			"",
		},
		"an image cannot claim sockets": {
			envInput{config: []string{"LISTEN_FDS=3", "LISTEN_PID=1", "WATCHDOG_USEC=1"}, notify: notifyLauncher, privatePIDs: true},
			"",
		},
		"credentials": {
			envInput{unit: []string{"CREDENTIALS_DIRECTORY=/run/credentials/a.service"}, notify: notifyLauncher, credentials: "/run/host/credentials"},
			"CREDENTIALS_DIRECTORY=/run/host/credentials",
		},
		"malformed": {
			envInput{config: []string{"A"}, unit: []string{"", "=x", "B"}, notify: notifyLauncher},
			"A",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(payloadEnv(tt.in), " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestListenFDs(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	me := strconv.Itoa(os.Getpid())
	for name, tt := range map[string]struct {
		env     map[string]string
		want    int
		wantErr bool
	}{
		"none":        {nil, 0, false},
		"other's":     {map[string]string{"LISTEN_FDS": "1", "LISTEN_PID": "1"}, 0, false},
		"not numbers": {map[string]string{"LISTEN_FDS": "x", "LISTEN_PID": me}, 0, true},
		"negative":    {map[string]string{"LISTEN_FDS": "-1", "LISTEN_PID": me}, 0, true},
		"not open":    {map[string]string{"LISTEN_FDS": "60000", "LISTEN_PID": me}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := listenFDs(func(k string) string { return tt.env[k] }, os.Getpid())
			if len(files) != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("got %d files, %v", len(files), err)
			}
			// A file that nobody has any more closes its descriptor.
			runtime.GC()
			runtime.GC()
			if _, err := r.Stat(); err != nil {
				t.Error("descriptors of others are closed:", err)
			}
		})
	}
}
