// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atomic-agent/atomic/test/bed"
)

// engine is one way to run a bundle.
type engine struct {
	name string
	// command runs the bundle in the working directory as container $id.
	command string
	// refuses is a part of what the engine says of a configuration that is not
	// its business; empty if it has to take every one.
	refuses string
	// ours says that the engine is atomic's.
	ours bool
}

// engines begin with the reference that all others are compared with.
var engines = []engine{
	{name: "oci", command: `/usr/libexec/atomic/atomic-launch run --engine oci --bundle . --id "$id"`, ours: true},
	{name: "plan", command: `/usr/libexec/atomic/atomic-launch run --engine plan --bundle . --id "$id"`, refuses: "is not on the list", ours: true},
	{name: "runc", command: `runc run --bundle . "$id"`},
	{name: "crun", command: `crun run --bundle . "$id"`},
}

var (
	suite    = flag.String("suite", "forky", "the Debian release of the bed, and so the versions of runc and crun")
	selected = flag.String("engines", "", "comma-separated `names`; empty means all")
	verbose  = flag.Bool("dump", false, "print everything that was observed")
)

// top is where the bundles are in the bed: on a real file system, because
// overlayfs has no id-mapped mounts.
const top = "/var/lib/containers/oci"

// runner runs one case with one engine: runner CASE COMMAND. What it prints is
// read by parse. Descriptor 9 must not be seen by the payload.
const runner = `#!/bin/sh
cd ` + top + `/"$1" || exit 1
export id="case-$1" bundle="$PWD"
rm -rf rootfs
cp -a ../rootfs rootfs
[ ! -e setup ] || . ./setup >out.setup 2>&1 || { cat out.setup; exit 1; }
sed 's/^/known /' out.setup 2>/dev/null
for n in cgroup ipc mnt net pid time user uts; do echo "known $(readlink /proc/self/ns/$n) host"; done
{ { echo input | timeout -k 1 20 sh -c "exec $2" 9</etc 2>&3 3>&-; echo $? >code; } | cat >out; } 3>&1 | cat >err
echo "code $(cat code)"
sed 's/^/out /' out
sed 's/^/err /' err
[ ! -e after ] || . ./after 2>&1 | sed 's/^/out /'
[ ! -e teardown ] || . ./teardown >/dev/null 2>&1
rm -f out err code out.setup
if grep -q " $PWD/rootfs" /proc/self/mountinfo; then echo 'out host.mounts	left behind'; umount -R -l "$PWD/rootfs"; fi
rm -rf rootfs
`

// lab is a bed with the probe and the bundles of all cases.
type lab struct {
	bed     *bed.Bed
	engines []engine
}

func newLab(ctx context.Context, t *testing.T, cases []testCase) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("must not be skipped here: beds need root")
		}
		t.Skip("boots a bed, which needs root")
	}
	if testing.Short() {
		t.Skip("boots a bed")
	}
	b, err := bed.Boot(ctx, bed.Options{Suite: *suite, Variant: bed.Bench, Product: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &lab{bed: b}
	for _, e := range engines {
		if *selected == "" || slices.Contains(strings.Split(*selected, ","), e.name) {
			l.engines = append(l.engines, e)
		}
	}
	if len(l.engines) == 0 || l.engines[0].name != engines[0].name {
		t.Fatalf("-engines must include %s, the reference", engines[0].name)
	}
	if err := l.unpack(ctx, t, cases); err != nil {
		t.Fatal(err)
	}
	return l
}

// life ends at a signal, so that an interrupted test removes its bed.
func life(t *testing.T) context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	t.Cleanup(stop)
	return ctx
}

// compile builds the probe.
func compile(ctx context.Context, t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "probe")
	cmd := exec.CommandContext(ctx, "gcc", "-static", "-O1", "-Wall", "-Werror", "-o", out, "probe/probe.c")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile the probe: %v\n%s", err, msg)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// unpack puts the runner, the root file system and all bundles into the bed.
func (l *lab) unpack(ctx context.Context, t *testing.T, cases []testCase) error {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	var failed error
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		_, err := w.Write(nil)
		failed = errors.Join(failed, err, w.WriteHeader(&h))
		_, err = w.Write(content)
		failed = errors.Join(failed, err)
	}
	file := func(name string, mode int64, content []byte) { add(tar.Header{Name: name, Mode: mode}, content) }
	file("run", 0o755, []byte(runner))
	root := rootfs(compile(ctx, t))
	for _, e := range root {
		h := e.Header
		h.Name = "rootfs/" + h.Name
		add(h, e.content)
	}
	for _, c := range cases {
		spec := base()
		if c.change != nil {
			c.change(spec)
		}
		config, err := json.MarshalIndent(spec, "", "  ")
		if err != nil {
			return err
		}
		file(c.name+"/config.json", 0o644, config)
		for name, text := range map[string]string{"setup": c.setup, "after": c.after, "teardown": c.teardown} {
			if text != "" {
				file(c.name+"/"+name, 0o644, []byte(text+"\n"))
			}
		}
	}
	if err := errors.Join(failed, w.Close()); err != nil {
		return err
	}
	code, err := l.bed.Exec(ctx, bed.Command{
		Args: []string{"sh", "-c", "mkdir -p " + top + " && tar -x -C " + top}, Stdin: &buf, Stderr: os.Stderr,
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("tar: exit code %d", code)
	}
	return err
}

// run runs a case with an engine.
func (l *lab) run(ctx context.Context, t *testing.T, c testCase, e engine) *observation {
	t.Helper()
	res, err := l.bed.Run(ctx, "sh", top+"/run", c.name, e.command)
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", e.name, err, res.Stdout, res.Stderr)
	}
	o := parse(res.Stdout)
	if *verbose {
		t.Logf("%s:\n%s", e.name, o)
	}
	return o
}

// entry is one file of the containers' root file system.
type entry struct {
	tar.Header
	content []byte
}

// rootfs is what the containers are made of: the probe, mount points, and
// things that runtimes have stumbled over.
func rootfs(probe []byte) []entry {
	dir := func(name string, mode int64) entry {
		return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}}
	}
	link := func(name, target string) entry {
		return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
	}
	file := func(name string, mode int64, text string) entry {
		return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content: []byte(text)}
	}
	es := []entry{
		dir(".", 0o755), dir("bin", 0o755), file("bin/probe", 0o755, string(probe)),
		file("bin/text", 0o644, "not a program\n"), file("bin/script", 0o755, "#!/bin/none\n"),
		dir("etc", 0o755), file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"),
		file("etc/group", 0o644, "root:x:0:\nuser:x:1000:\n"), file("etc/secret", 0o644, "secret\n"),
		dir("root", 0o700), dir("home", 0o755),
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "home/user", Mode: 0o700, Uid: 1000, Gid: 1000}},
		dir("work", 0o755), file("work/file", 0o644, "file\n"),
		dir("mnt", 0o755), dir("mnt/a", 0o755), dir("mnt/b", 0o755), file("mnt/file", 0o644, "below\n"),
		dir("full", 0o755), file("full/one", 0o640, "1\n"), dir("full/sub", 0o711), link("full/link", "one"),
		link("tohome", "home/user"), link("toetc", "/etc"), link("up", "../../../../etc"), link("tosecret", "etc/secret"),
		link("dangling", "/nothing/here"),
	}
	for _, d := range []string{"proc", "sys", "dev", "run", "var"} {
		es = append(es, dir(d, 0o755))
	}
	return append(es, dir("tmp", 0o1777))
}

// base is the configuration that the cases change: what `runc spec` writes,
// with a probe in it.
func base() *specs.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	return &specs.Spec{
		Version:  "1.2.0",
		Hostname: "inside",
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{
			Args: []string{"/bin/probe"}, Cwd: "/",
			Env:             []string{"PATH=/usr/bin:/bin", "TERM=dumb"},
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
			NoNewPrivileges: true,
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.CgroupNamespace},
			},
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}
