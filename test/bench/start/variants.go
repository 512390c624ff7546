// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/test/bed"
)

const (
	image      = bed.RegistryHost + "/library/hello:notify"
	plainImage = bed.RegistryHost + "/library/hello:plain"
)

// variant is one way to run the payload. conf is atomic's configuration while
// it is started, beside the variant that it is compared with: "plain" if empty.
type variant struct {
	name, unit, conf, what string
	beside                 string
}

const (
	bare     = "[TPM]\nMeasure=off\n[Machined]\nRegister=no\n"
	complete = "[Launch]\nEngine=oci\n"
)

var variants = []variant{
	{name: "plain", unit: "plain.service", what: "the payload as an ordinary service, no isolation"},
	{name: "atomic", unit: "hello.service", what: "by its plan, measured into the TPM and registered with machined"},
	{name: "atomic, bare", unit: "hello.service", conf: bare, what: "by its plan, neither measured nor registered"},
	{name: "atomic oci", unit: "hello-oci.service", conf: complete, what: "by libcontainer, measured and registered"},
	{name: "atomic oci, bare", unit: "hello-oci.service", conf: complete + bare, what: "by libcontainer, neither measured nor registered"},
	{name: "native", unit: "native.service", what: "systemd's own sandbox: RootDirectory=, private namespaces, a system call filter"},
	{name: "crun", unit: "crun.service", what: "crun run in the foreground, atomic's config.json"},
	{name: "runc", unit: "runc.service", what: "runc run in the foreground, atomic's config.json"},
	{name: "nspawn", unit: "nspawn.service", what: "systemd-nspawn --notify-ready, not registered"},
	{name: "quadlet", unit: "quadlet.service", what: "podman with crun and conmon, Network=none, Notify=true"},
	{name: plainExec, unit: "plain-exec.service", what: "the payload as an ordinary service that is up when it is executed", beside: plainExec},
	{name: "generated", unit: "generated.service", what: "an image without templates, in a user namespace, by its plan; up when executed", beside: plainExec},
	{name: "generated oci", unit: "generated-oci.service", conf: complete, what: "the same by libcontainer", beside: plainExec},
}

const plainExec = "plain, exec"

const (
	rootfs = "/var/lib/containers/atomic/hello.0/rootfs"
	// work holds what the others need.
	work   = "/var/lib/bench"
	bundle = work + "/bundle"
	copied = work + "/rootfs" // what nspawn runs: it needs to make mount points
	// flags keep the payload small: no web server.
	flags = "-listen="
)

// unlimited lets a unit start as often as the rounds want.
const unlimited = "[Unit]\nStartLimitIntervalSec=0\n"

const helloEnvironment = unlimited + "[Service]\nEnvironment=HELLO_FLAGS=" + flags + "\n"

const plainUnit = unlimited + `[Service]
Type=notify
Environment=HELLO_FLAGS=` + flags + `
ExecStart=` + rootfs + `/usr/bin/hello
`

var units = map[string]string{
	"/etc/systemd/system/plain.service":      plainUnit,
	"/etc/systemd/system/plain-exec.service": strings.Replace(plainUnit, "Type=notify", "Type=exec", 1),
	"/etc/systemd/system/native.service": unlimited + `[Service]
Type=notify
Environment=HELLO_FLAGS=` + flags + `
ExecStart=/usr/bin/hello
RootDirectory=` + copied + `
MountAPIVFS=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateIPC=yes
PrivateNetwork=yes
PrivateMounts=yes
PrivatePIDs=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_KILL CAP_AUDIT_WRITE
SystemCallArchitectures=native
SystemCallFilter=@system-service
`,
	"/etc/systemd/system/crun.service": unlimited + `[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/crun run --bundle ` + bundle + ` bench-crun
`,
	"/etc/systemd/system/runc.service": unlimited + `[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/runc run --bundle ` + bundle + ` bench-runc
`,
	"/etc/systemd/system/nspawn.service": unlimited + `[Service]
Type=notify
NotifyAccess=all
Delegate=yes
ExecStart=/usr/bin/systemd-nspawn --quiet --directory=` + copied + ` --machine=bench --register=no --keep-unit --notify-ready=yes \
	--kill-signal=SIGTERM --private-network --resolv-conf=off --timezone=off --link-journal=no --setenv=HELLO_FLAGS=` + flags + ` /usr/bin/hello
`,
	"/etc/containers/systemd/quadlet.container": unlimited + `[Container]
Image=` + image + `
Network=none
Notify=true
PodmanArgs=--pids-limit=0
Environment=HELLO_FLAGS=` + flags + `
`,
	"/etc/systemd/system/hello.service.d/bench.conf":     helloEnvironment,
	"/etc/systemd/system/hello-oci.service.d/bench.conf": helloEnvironment,

	"/etc/systemd/system/generated.service.d/bench.conf":     unlimited,
	"/etc/systemd/system/generated-oci.service.d/bench.conf": unlimited,
}

const confFile = "/etc/atomic/atomic.conf.d/bench.conf"

// host is the bed as the variants need it.
type host struct {
	bed  *bed.Bed
	conf string
}

// prepare installs every variant.
func (h *host) prepare(ctx context.Context) error {
	for _, conf := range []string{"", complete} {
		if err := h.configure(ctx, conf); err != nil {
			return err
		}
		suffix := ""
		if conf != "" {
			suffix = "-oci"
		}
		if err := h.install(ctx, "hello"+suffix, image); err != nil {
			return err
		}
		// What is below /var/lib is an overlay in a bed, whose files cannot be
		// id-mapped: no user namespace.
		if err := h.installWith(ctx, "generated"+suffix, "STATE_DIRECTORY=/var/lib/containers", plainImage); err != nil {
			return err
		}
	}
	config, err := h.bed.CopyOut(ctx, "/var/lib/containers/atomic/hello/config.json")
	if err != nil {
		return err
	}
	if config, err = foreign(config); err != nil {
		return err
	}
	if err := h.bed.Write(ctx, bundle+"/config.json", 0o644, strings.NewReader(string(config))); err != nil {
		return err
	}
	for path, text := range units {
		if err := h.bed.Write(ctx, path, 0o644, strings.NewReader(text)); err != nil {
			return err
		}
	}
	for _, command := range [][]string{
		{"cp", "-a", rootfs, copied},
		{"podman", "pull", "-q", "--creds", "atomic:atomic", image},
		{"systemctl", "daemon-reload"},
	} {
		if _, err := h.bed.Run(ctx, command...); err != nil {
			return err
		}
	}
	return nil
}

// install installs a container and starts it once, which mounts its root file
// system.
func (h *host) install(ctx context.Context, name, image string) error {
	return h.installWith(ctx, name, "LISTEN=", image)
}

func (h *host) installWith(ctx context.Context, name, value, image string) error {
	if _, err := h.bed.Run(ctx, "atomic", "install", "--system", "--name", name, "--set", value, image); err != nil {
		return err
	}
	if _, err := h.bed.Run(ctx, "systemctl", "start", name); err != nil {
		return err
	}
	_, err := h.bed.Run(ctx, "systemctl", "stop", name)
	return err
}

// foreign is the same configuration for another runtime: the root is named in
// full, and the notification socket is left to that runtime, which wants a
// place in /run for it. The number of mounts is the same.
func foreign(config []byte) ([]byte, error) {
	var spec specs.Spec
	if err := json.Unmarshal(config, &spec); err != nil {
		return nil, fmt.Errorf("read config.json: %w", err)
	}
	spec.Root.Path = rootfs
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Source, "/run/atomic/") })
	spec.Process.Env = slices.DeleteFunc(spec.Process.Env, func(e string) bool {
		return strings.HasPrefix(e, "NOTIFY_SOCKET=") || strings.HasPrefix(e, "HELLO_FLAGS=")
	})
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=755"}})
	spec.Process.Env = append(spec.Process.Env, "HELLO_FLAGS="+flags)
	return json.Marshal(spec)
}

// configure sets atomic's configuration.
func (h *host) configure(ctx context.Context, conf string) error {
	if conf == h.conf {
		return nil
	}
	h.conf = conf
	return h.bed.Write(ctx, confFile, 0o644, strings.NewReader(conf))
}

// journal is what a unit logged last, for an error.
func (h *host) journal(ctx context.Context, unit string) string {
	res, err := h.bed.Run(ctx, "journalctl", "-u", unit, "-n", "8", "-o", "cat", "--no-pager")
	if err != nil {
		return ""
	}
	return "\n" + res.Stdout
}
