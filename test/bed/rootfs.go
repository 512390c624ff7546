// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atomic-agent/atomic/internal/hint"
)

// Suites are the Debian releases that tests run on, oldest systemd first.
var Suites = []string{"bookworm", "trixie", "forky"}

// SystemdVersion is the systemd that a suite boots with.
func SystemdVersion(suite string) string {
	return map[string]string{"bookworm": "252", "trixie": "257", "forky": "262"}[suite]
}

// Variants of a root file system.
const (
	// Base has what the product needs of its host, and a registry.
	Base = "base"
	// Bench has the peers as well: podman, crun, runc, skopeo, umoci.
	Bench = "bench"
)

// recipeVersion changes when the recipe below changes in a way that the list
// of packages does not show.
const recipeVersion = 1

var basePackages = []string{
	"bash-completion", "ca-certificates", "dbus", "docker-registry", "iproute2", "kmod",
	"less", "libnss-myhostname", "libnss-mymachines", "libnss-systemd", "libpam-systemd",
	"mount", "nftables", "openssl", "polkitd", "procps", "psmisc", "systemd",
	"systemd-container", "systemd-resolved", "systemd-sysv", "tpm2-tools", "udev",
}

var benchPackages = []string{
	"conmon", "crun", "fuse-overlayfs", "golang-github-containers-common", "netavark",
	"podman", "runc", "skopeo", "umoci",
}

// Recipe says how to build one root file system.
type Recipe struct {
	Suite   string
	Variant string // names the set of packages in the cache; not empty
	// Packages are installed on top of Debian's essential ones.
	Packages []string
	// Customize are shell commands run last, outside the new root; $1 is its path.
	Customize []string
}

// NewRecipe returns the recipe of a suite's variant.
func NewRecipe(suite, variant string) (Recipe, error) {
	if !slices.Contains(Suites, suite) {
		return Recipe{}, fmt.Errorf("unknown suite %q: one of %s", suite, strings.Join(Suites, ", "))
	}
	r := Recipe{Suite: suite, Variant: variant, Packages: slices.Clone(basePackages), Customize: customize}
	switch variant {
	case Base:
	case Bench:
		r.Packages = append(r.Packages, benchPackages...)
	default:
		return Recipe{}, fmt.Errorf("unknown variant %q: %s or %s", variant, Base, Bench)
	}
	return r, nil
}

// customize makes a fresh Debian a system that boots at once: no units that
// wait for hardware or for a network that a bed does not have, and cores kept.
var customize = []string{
	`rm -f "$1"/etc/machine-id "$1"/etc/hostname "$1"/var/lib/dbus/machine-id`,
	`chroot "$1" systemctl --quiet mask systemd-networkd-wait-online.service console-getty.service`,
	// These are the machine's, not the bed's.
	`chroot "$1" systemctl --quiet mask sys-kernel-debug.mount sys-kernel-tracing.mount`,
	`chroot "$1" systemctl --quiet disable docker-registry.service || :`,
	`chroot "$1" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer || :`,
	`mkdir -p "$1"/etc/systemd/system.conf.d "$1"/etc/systemd/journald.conf.d`,
	`printf '[Manager]\nDefaultLimitCORE=infinity\n' >"$1"/etc/systemd/system.conf.d/50-bed.conf`,
	`printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\nSystemMaxFileSize=8M\n' >"$1"/etc/systemd/journald.conf.d/50-bed.conf`,
	`chroot "$1" passwd -q -d root || :`,
}

// hash identifies what the recipe makes, apart from the archive's own changes.
func (r Recipe) hash() string {
	h := sha256.New()
	pkgs := slices.Clone(r.Packages)
	slices.Sort(pkgs)
	fmt.Fprintln(h, recipeVersion, r.Suite, r.Variant, slices.Compact(pkgs), r.Customize)
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Rootfs returns the unpacked root file system of the recipe, building it with
// mmdebstrap (about a minute) if the cache does not have it. Callers must treat
// it as read-only. Progress and mmdebstrap's output go to log, which may be nil.
func (r Recipe) Rootfs(ctx context.Context, log io.Writer) (string, error) {
	dir, err := cachePath("rootfs", r.Suite+"-"+r.Variant+"-"+r.hash())
	if err != nil {
		return "", err
	}
	err = cached(ctx, dir, func(ctx context.Context, tmp string) error {
		return r.build(ctx, tmp, log)
	})
	if err != nil {
		return "", fmt.Errorf("build rootfs %s-%s: %w", r.Suite, r.Variant, err)
	}
	return dir, nil
}

func (r Recipe) build(ctx context.Context, dir string, log io.Writer) error {
	mirror, err := debianMirror("/etc/apt")
	if err != nil {
		return err
	}
	args := []string{
		"--mode=root", "--variant=minbase", "--format=directory",
		`--aptopt=Acquire::Languages "none"`,
		`--aptopt=Acquire::Check-Valid-Until "false"`, // the mirror may be a snapshot
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--include=" + strings.Join(r.Packages, ","),
	}
	for _, c := range r.Customize {
		args = append(args, "--customize-hook="+c)
	}
	args = append(args, r.Suite, dir, mirror)
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	var tail tailWriter
	cmd.Stdout, cmd.Stderr = &tail, &tail
	if log != nil {
		fmt.Fprintf(log, "bed: building rootfs %s (%s) from %s\n", r.Suite, r.Variant, mirror)
		cmd.Stderr = io.MultiWriter(log, &tail)
	}
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return hint.New(err, "test/prepare.sh installs mmdebstrap")
		}
		return fmt.Errorf("mmdebstrap: %w\n%s", err, tail.String())
	}
	return nil
}

// debianMirror returns the archive that the machine itself uses: the first
// URI below etcApt that ends in /debian.
func debianMirror(etcApt string) (string, error) {
	files := []string{filepath.Join(etcApt, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(etcApt, "sources.list.d", pattern))
		if err != nil {
			return "", err
		}
		files = append(files, more...)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue // sources.list is optional
		}
		uri := scanMirror(f)
		f.Close()
		if uri != "" {
			return uri, nil
		}
	}
	return "", fmt.Errorf("no Debian archive in %s/sources.list*", etcApt)
}

// scanMirror finds the archive in a one-line-style or deb822 sources file.
func scanMirror(r io.Reader) string {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) < 2 || fields[0] != "deb" && !strings.EqualFold(fields[0], "URIs:") {
			continue
		}
		for _, f := range fields[1:] {
			if strings.Contains(f, "://") && strings.HasSuffix(strings.TrimRight(f, "/"), "/debian") {
				return f
			}
		}
	}
	return ""
}

// tailWriter keeps the last 4 KiB written to it, for error messages.
type tailWriter struct{ buf []byte }

func (t *tailWriter) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - 4096; n > 0 {
		t.buf = t.buf[n:]
	}
	return len(p), nil
}

func (t *tailWriter) String() string { return strings.TrimSpace(string(t.buf)) }
