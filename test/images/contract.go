// SPDX-License-Identifier: Apache-2.0

package images

import (
	"maps"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// contractImages ask for the same things, in the same form, as the system
// containers that were published for the original tool. Their payload is the
// hello server or a script: they test the contract, not the programs.
func contractImages() []Image {
	contract := func(name, why string, more ...Source) Image {
		return Image{
			Repo: "contract/" + name, Tags: []string{"latest"}, Why: why,
			Layers: []Layer{base(), {Hello{Arch: runtime.GOARCH}}, append(Layer{Embedded("contract/" + name)}, more...)},
			Config: v1.Config{Labels: labels(name, "1.0", "1", why)},
		}
	}
	buildah := contract("buildah", "a run-once image: no service, a writable root file system, its own exit code")
	buildah.Config.Labels["atomic.run"] = "once"
	upper := contract("values", "default values that are no strings, unescaped dollar signs, all built-in values")
	upper.Config.Labels = maps.Clone(upper.Config.Labels)
	for k, v := range labels("values", "1.0", "1", "") { // labels were found in any spelling
		delete(upper.Config.Labels, k)
		upper.Config.Labels[strings.ToUpper(k)] = v
	}
	upper.Config.Labels["atomic.type"] = "system"
	return []Image{
		contract("hello-world", "OCI dialect 0.3.0: platform on top, no capabilities, hooks; no Type="),
		contract("net-snmp", "most of the host writable, all capabilities, bind options of the old runtime, no default values", Files{
			// An empty tmpfiles template: nobody else makes it.
			"exports/hostfs/var/lib/net-snmp": dir(0o755),
		}),
		contract("qemu-guest-agent", "capabilities as an array, two mounts on /dev whose order matters, device nodes, a device unit"),
		contract("open-vm-tools", "eighteen binds, an empty user, a condition that is not met"),
		contract("kube-apiserver", "a user and group that the image does not name"),
		contract("kubelet", "recursive binds and mounts that propagate to the host"),
		contract("docker", "commands on the host, some out of $DESTDIR/rootfs; an SELinux label; limits"),
		contract("flannel", "writes a drop-in of another service, removes it by ExecStopPost="),
		contract("azure", "no configuration of its own: the unit runs a script of the image on the host"),
		contract("pidfile", "the detached form: PIDFile=, ExecStopPost=, $$MAINPID"),
		contract("verbatim", "config.json, which wins over its template and is taken as it is"),
		contract("files", "noContainerService: host files only, renamed and rendered"),
		contract("tmpfiles", "tmpfiles lines that make files and symlinks"),
		contract("run-sh", "no templates at all, only the run.sh that the default configuration runs"),
		contract("links", "host files that are symbolic links: to a later one, to a file, to nothing; an empty directory", Files{
			"exports/hostfs/usr/local/share/links/a":     symlink("b"),
			"exports/hostfs/usr/local/share/links/b":     symlink("c"),
			"exports/hostfs/usr/local/share/links/c":     text("c\n"),
			"exports/hostfs/usr/local/share/links/none":  symlink("/nowhere"),
			"exports/hostfs/usr/local/share/links/empty": dir(0o755),
		}),
		upper,
		buildah,
	}
}
