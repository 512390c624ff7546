// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/test/bed"
)

const image = bed.RegistryHost + "/library/hello:notify"

// variant is one way to run the payload. With bare set, atomic neither
// measures nor registers, which the others do not do either.
type variant struct {
	name, unit string
	bare       bool
	what       string
}

var variants = []variant{
	{"plain", "plain.service", false, "the payload as an ordinary service, no isolation"},
	{"atomic", "hello.service", false, "measured into the TPM and registered with machined"},
	{"atomic, bare", "hello.service", true, "neither measured nor registered"},
	{"crun", "crun.service", false, "crun run in the foreground, atomic's config.json"},
	{"runc", "runc.service", false, "runc run in the foreground, atomic's config.json"},
	{"quadlet", "quadlet.service", false, "podman with crun and conmon, Network=none, Notify=true"},
}

const (
	rootfs = "/var/lib/containers/atomic/hello.0/rootfs"
	bundle = "/var/lib/bench/bundle"
	// flags keep the payload small: no web server.
	flags = "-listen="
)

// unlimited lets a unit start as often as the rounds want.
const unlimited = "[Unit]\nStartLimitIntervalSec=0\n"

var units = map[string]string{
	"/etc/systemd/system/plain.service": unlimited + `[Service]
Type=notify
Environment=HELLO_FLAGS=` + flags + `
ExecStart=` + rootfs + `/usr/bin/hello
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
	"/etc/containers/systemd/quadlet.container": unlimited + `[Container]
Image=` + image + `
Network=none
Notify=true
PodmanArgs=--pids-limit=0
Environment=HELLO_FLAGS=` + flags + `
`,
	"/etc/systemd/system/hello.service.d/bench.conf": unlimited + `[Service]
Environment=HELLO_FLAGS=` + flags + `
`,
}

const bareConfig = "/etc/atomic/atomic.conf.d/bench.conf"

// host is the bed as the variants need it.
type host struct {
	bed  *bed.Bed
	bare bool
}

// prepare installs every variant.
func (h *host) prepare(ctx context.Context) error {
	if _, err := h.bed.Run(ctx, "atomic", "install", "--system", "--name", "hello", image); err != nil {
		return err
	}
	if _, err := h.bed.Run(ctx, "systemctl", "start", "hello"); err != nil {
		return err // mounts the root file system, for all of them
	}
	if _, err := h.bed.Run(ctx, "systemctl", "stop", "hello"); err != nil {
		return err
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
	if _, err := h.bed.Run(ctx, "podman", "pull", "-q", "--creds", "atomic:atomic", image); err != nil {
		return err
	}
	_, err = h.bed.Run(ctx, "systemctl", "daemon-reload")
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

// configure sets what the host does at a start beside starting.
func (h *host) configure(ctx context.Context, v variant) error {
	if v.bare == h.bare {
		return nil
	}
	h.bare = v.bare
	if !v.bare {
		_, err := h.bed.Run(ctx, "rm", bareConfig)
		return err
	}
	return h.bed.Write(ctx, bareConfig, os.FileMode(0o644), strings.NewReader("[TPM]\nMeasure=off\n[Machined]\nRegister=no\n"))
}

// journal is what a unit logged last, for an error.
func (h *host) journal(ctx context.Context, unit string) string {
	res, err := h.bed.Run(ctx, "journalctl", "-u", unit, "-n", "8", "-o", "cat", "--no-pager")
	if err != nil {
		return ""
	}
	return "\n" + res.Stdout
}
