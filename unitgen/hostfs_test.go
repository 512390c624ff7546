// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/atomic-agent/atomic/unitgen"
)

// A templated file that is renamed with a variable is found by the name it
// gets, which only the same variable can say.
func TestTemplateFollowsRename(t *testing.T) {
	out, err := unitgen.Render(unitgen.Input{
		Name: "other", Generation: 1, DestDir: "/var/lib/containers/atomic/other.1",
		Exports: unitgen.Exports{
			Manifest: []byte(`{"noContainerService": true, "defaultValues": {"X": "1"},
				"renameFiles": {"/usr/local/share/a": "/usr/local/share/$NAME"},
				"installedFilesTemplate": ["/usr/local/share/${NAME}/f"]}`),
			HostFS: []unitgen.HostFile{{Path: "/usr/local/share/a/f", Mode: 0o644, Content: []byte("$NAME $X\n")}},
			Lookup: func(string) (unitgen.Entry, bool) { return unitgen.Entry{}, false },
		},
		Host: unitgen.HostFacts{Exists: func(string) bool { return false }, Verity: "try"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.HostFiles) != 1 || out.HostFiles[0].Path != "/usr/local/share/other/f" || string(out.HostFiles[0].Content) != "other 1\n" {
		t.Errorf("got %+v", out.HostFiles)
	}
	if !slices.Equal(out.HostFileTemplates, []string{"/usr/local/share/other/f"}) || len(out.Warnings) > 0 {
		t.Errorf("templates %q, warnings %s", out.HostFileTemplates, strings.Join(out.Warnings, "; "))
	}
}

// A bind source that the image itself installs is a file before the first
// start, though the host has nothing there yet: it needs a file to be mounted
// on, and no directory from tmpfiles.
func TestMountOfHostFile(t *testing.T) {
	out, err := unitgen.Render(unitgen.Input{
		Name: "net", DestDir: "/var/lib/containers/atomic/net.0",
		Exports: unitgen.Exports{
			ConfigTemplate: []byte(`{"ociVersion": "1.0.0", "process": {"args": ["/net"], "cwd": "/"},
				"root": {"path": "rootfs", "readonly": true}, "linux": {"namespaces": [{"type": "mount"}]}, "mounts": [
				{"destination": "/etc/sysconfig/net", "source": "/etc/sysconfig/net", "type": "bind", "options": ["bind", "ro"]},
				{"destination": "/etc/net", "source": "/etc/net", "type": "bind", "options": ["bind", "ro"]}]}`),
			ServiceTemplate: []byte("[Service]\nExecStart=$EXEC_START\n"),
			HostFS: []unitgen.HostFile{
				{Path: "/etc/sysconfig/net", Mode: 0o644},
				{Path: "/etc/net/conf", Mode: 0o644},
			},
			Lookup: func(string) (unitgen.Entry, bool) { return unitgen.Entry{}, false },
		},
		Host: unitgen.HostFacts{
			Exists: func(string) bool { return false },
			IsDir:  func(string) (bool, bool) { return false, false },
			Verity: "try", Launcher: "/usr/libexec/atomic/atomic-launch",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []unitgen.MountPoint{{Path: "/etc/sysconfig/net"}, {Path: "/etc/net", Dir: true}} {
		if !slices.Contains(out.MountPoints, want) {
			t.Errorf("mount points %+v lack %+v", out.MountPoints, want)
		}
	}
	if len(out.Tmpfiles) > 0 {
		t.Errorf("tmpfiles: %s", out.Tmpfiles)
	}
}

// The runtime follows a symlink of the host's /dev inside the image: that is
// where the mount needs a place.
func TestMountOnHostLink(t *testing.T) {
	out, err := unitgen.Render(unitgen.Input{
		Name: "snmp", DestDir: "/var/lib/containers/atomic/snmp.0",
		Exports: unitgen.Exports{
			ConfigTemplate: []byte(`{"ociVersion": "1.0.0", "process": {"args": ["/snmp"], "cwd": "/"},
				"root": {"path": "rootfs", "readonly": true}, "linux": {"namespaces": [{"type": "mount"}]}, "mounts": [
				{"destination": "/dev", "source": "tmpfs", "type": "tmpfs"},
				{"destination": "/dev", "source": "/dev", "type": "bind", "options": ["rbind"]},
				{"destination": "/dev/null", "source": "/dev/zero", "type": "bind", "options": ["bind"]},
				{"destination": "/dev/log", "source": "/dev/log", "type": "bind", "options": ["bind"]}]}`),
			ServiceTemplate: []byte("[Service]\nExecStart=$EXEC_START\n"),
			Lookup: func(p string) (unitgen.Entry, bool) {
				return unitgen.Entry{Mode: fs.ModeDir | 0o755}, p == "/dev" || p == "/run"
			},
		},
		Host: unitgen.HostFacts{
			Exists:   func(string) bool { return true },
			IsDir:    func(p string) (bool, bool) { return p == "/dev", true },
			Readlink: func(p string) (string, bool) { return "/run/systemd/journal/dev-log", p == "/dev/log" },
			Verity:   "try", Launcher: "/usr/libexec/atomic/atomic-launch",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []unitgen.MountPoint{
		{Path: "/run/systemd", Dir: true}, {Path: "/run/systemd/journal", Dir: true}, {Path: "/run/systemd/journal/dev-log"},
	}
	if !slices.Equal(out.MountPoints, want) {
		t.Errorf("mount points %+v, want %+v", out.MountPoints, want)
	}
}
