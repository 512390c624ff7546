// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestComplaints(t *testing.T) {
	const out = `
/tmp/v/etcd.service:3: Failed to parse Type=nonsense, ignoring: Invalid argument
etcd.service: Command /var/lib/containers/atomic/etcd.0/rootfs/set_mounts.sh is not executable: No such file or directory
etcd.service: Command /usr/bin/nothing is not executable: No such file or directory
`
	want := []string{
		"etcd.service:3: Failed to parse Type=nonsense, ignoring: Invalid argument",
		"etcd.service: Command /usr/bin/nothing is not executable: No such file or directory",
	}
	if diff := cmp.Diff(want, complaints(out, "/tmp/v", []string{"/var/lib/containers/atomic/etcd.0"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestVerify(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze")
	}
	const good = "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n"
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"good", map[string]string{"x.service": good}, ""},
		{"unknown key", map[string]string{"x.service": good + "Nonsense=1\n"}, "Nonsense"},
		{"bad value in a drop-in", map[string]string{"x.service": good, "x.service.d/50-atomic.conf": "[Service]\nType=perhaps\n"}, "perhaps"},
		{"program that comes later", map[string]string{"x.service": good + "ExecStartPre=/later/rootfs/x\n"}, ""},
		{"program that never comes", map[string]string{"x.service": good + "ExecStartPre=/never/x\n"}, "/never/x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string][]byte{}
			for name, content := range tt.files {
				files[name] = []byte(content)
			}
			err := Verify(t.Context(), files, []string{"/later"})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
