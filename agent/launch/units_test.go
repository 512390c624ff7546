// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/atomic-agent/atomic/internal/paths"
)

func TestUnitFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		files string // file, or file>target for a symlink
		unit  string
		want  string
	}{
		"the usual": {
			files: "/etc/systemd/system.attached/etcd.service /etc/systemd/system.attached/etcd.service.d/50-atomic.conf",
			unit:  "etcd.service",
			want:  "/etc/systemd/system.attached/etcd.service /etc/systemd/system.attached/etcd.service.d/50-atomic.conf",
		},
		"an administrator's unit hides ours": {
			files: "/etc/systemd/system.attached/etcd.service /etc/systemd/system/etcd.service /usr/lib/systemd/system/etcd.service",
			unit:  "etcd.service",
			want:  "/etc/systemd/system/etcd.service",
		},
		"drop-ins are sorted by name over all directories": {
			files: "/etc/systemd/system/a.service /run/systemd/system/a.service.d/10-x.conf " +
				"/etc/systemd/system.attached/a.service.d/50-atomic.conf /etc/systemd/system.control/a.service.d/50-MemoryMax.conf " +
				"/etc/systemd/system/a.service.d/override.conf /usr/lib/systemd/system/service.d/20-all.conf",
			unit: "a.service",
			want: "/etc/systemd/system/a.service /run/systemd/system/a.service.d/10-x.conf /usr/lib/systemd/system/service.d/20-all.conf " +
				"/etc/systemd/system.control/a.service.d/50-MemoryMax.conf /etc/systemd/system.attached/a.service.d/50-atomic.conf " +
				"/etc/systemd/system/a.service.d/override.conf",
		},
		"the first of equal names counts": {
			files: "/etc/systemd/system/a.service /etc/systemd/system/a.service.d/x.conf /usr/lib/systemd/system/a.service.d/x.conf " +
				"/etc/systemd/system/service.d/x.conf",
			unit: "a.service",
			want: "/etc/systemd/system/a.service /etc/systemd/system/a.service.d/x.conf",
		},
		"masked": {
			files: "/etc/systemd/system/a.service /etc/systemd/system/a.service.d/x.conf>/dev/null /usr/lib/systemd/system/a.service.d/x.conf",
			unit:  "a.service",
			want:  "/etc/systemd/system/a.service",
		},
		"prefixes": {
			files: "/etc/systemd/system/a-b-c.service /etc/systemd/system/a-b-.service.d/1.conf /etc/systemd/system/a-.service.d/2.conf " +
				"/etc/systemd/system/a-b-c.service.d/3.conf /etc/systemd/system/b-.service.d/4.conf",
			unit: "a-b-c.service",
			want: "/etc/systemd/system/a-b-c.service /etc/systemd/system/a-b-.service.d/1.conf /etc/systemd/system/a-.service.d/2.conf " +
				"/etc/systemd/system/a-b-c.service.d/3.conf",
		},
		"other files": {
			files: "/etc/systemd/system/a.service /etc/systemd/system/a.service.d/x.conf~ /etc/systemd/system/a.service.d/.x.conf",
			unit:  "a.service",
			want:  "/etc/systemd/system/a.service",
		},
		"nothing": {unit: "a.service"},
	} {
		t.Run(name, func(t *testing.T) {
			host := paths.Host{Root: t.TempDir()}
			for _, f := range strings.Fields(tt.files) {
				file, target, link := strings.Cut(f, ">")
				path := host.Path(file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				var err error
				if link {
					err = os.Symlink(target, path)
				} else {
					err = os.WriteFile(path, []byte(file), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			files, err := unitFiles(host, tt.unit)
			if err != nil {
				t.Fatal(err)
			}
			got := []string{}
			for _, f := range files {
				got = append(got, f.Path)
				if len(f.SHA256) != 64 {
					t.Errorf("%s has the digest %q", f.Path, f.SHA256)
				}
			}
			if diff := cmp.Diff(strings.Fields(tt.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDropInDirs(t *testing.T) {
	for unit, want := range map[string]string{
		"etcd.service":   "etcd.service.d service.d",
		"a-b.service":    "a-b.service.d a-.service.d service.d",
		"a-b-c.service":  "a-b-c.service.d a-b-.service.d a-.service.d service.d",
		"a--b.service":   "a--b.service.d a--.service.d a-.service.d service.d",
		"-a.service":     "-a.service.d service.d",
		"a.b.service":    "a.b.service.d service.d",
		"x-a.b.service":  "x-a.b.service.d x-.service.d service.d",
		"trail-.service": "trail-.service.d service.d",
	} {
		if got := strings.Join(dropInDirs(unit), " "); got != want {
			t.Errorf("%s: got %s, want %s", unit, got, want)
		}
	}
}
