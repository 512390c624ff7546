// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"github.com/atomic-agent/atomic/test/bed"
)

// imageVersion changes when what buildImage makes changes.
const imageVersion = 3

// diskSize is the size of the root disk; the file that holds it is sparse.
const diskSize = "6G"

// keepImages is how many built images stay in the cache.
const keepImages = 3

// vmPackages are what a machine needs beyond what a bed has.
var vmPackages = []string{"linux-image-cloud-amd64", "e2fsprogs", "fsverity"}

// vmCustomize makes the first boot like every other one: a machine-id, and
// nothing that systemd would find to bring up to date.
var vmCustomize = []string{
	`echo 7c0f2a3bb1d24d6f9f0c5a1e8b764321 >"$1"/etc/machine-id`,
	`chroot "$1" systemd-hwdb update || :`,
	`chroot "$1" systemctl --quiet mask getty@tty1.service serial-getty@ttyS0.service e2scrub_reap.service e2scrub_all.timer fstrim.timer dpkg-db-backup.timer systemd-pcrlock-make-policy.service`,
}

// agentUnit starts the agent as early as the service manager can.
const agentUnit = `[Unit]
Description=Runs commands for the test outside
DefaultDependencies=no

[Service]
ExecStart=/usr/lib/atomic-test/agent serve
KillMode=process
OOMScoreAdjust=-1000
`

// image is what a machine boots: cached, never written to.
type image struct {
	disk, kernel, initrd string
}

// buildImage returns the image that the options describe, from the cache if it
// is there.
func buildImage(ctx context.Context, opts Options) (*image, error) {
	rootfs, err := vmRootfs(ctx, opts)
	if err != nil {
		return nil, err
	}
	cache, err := bed.CacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "vm")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a leftover is swept by the next machine

	parts, err := prepareParts(ctx, tmp, rootfs, opts)
	if err != nil {
		return nil, err
	}
	key, err := parts.key()
	if err != nil {
		return nil, err
	}
	final := filepath.Join(dir, "image-"+opts.Suite+"-"+key)
	img := &image{disk: filepath.Join(final, "disk"), initrd: filepath.Join(final, "initrd")}
	if img.kernel, err = kernelImage(rootfs); err != nil {
		return nil, err
	}
	if _, err := os.Stat(final); err == nil {
		return img, touch(final)
	}
	work := filepath.Join(tmp, "image")
	if err := os.Mkdir(work, 0o755); err != nil {
		return nil, err
	}
	if err := buildInitrd(rootfs, parts.agent, filepath.Join(work, "initrd")); err != nil {
		return nil, fmt.Errorf("build initrd: %w", err)
	}
	if err := parts.makeDisk(ctx, filepath.Join(work, "disk"), tmp); err != nil {
		return nil, fmt.Errorf("build disk: %w", err)
	}
	if err := os.Rename(work, final); err != nil {
		return nil, err
	}
	return img, pruneImages(dir)
}

func vmRootfs(ctx context.Context, opts Options) (string, error) {
	recipe, err := bed.NewRecipe(opts.Suite, bed.Base)
	if err != nil {
		return "", err
	}
	recipe.Variant = "vm"
	recipe.Packages = append(recipe.Packages, vmPackages...)
	recipe.Customize = append(recipe.Customize, vmCustomize...)
	return recipe.Rootfs(ctx, opts.Log)
}

// parts are what a disk is made of.
type parts struct {
	layers []string   // the topmost first, the root file system last
	copies []bed.Bind // directories that are copied to places in them
	agent  string     // the agent's program
}

func prepareParts(ctx context.Context, tmp, rootfs string, opts Options) (*parts, error) {
	own, err := agentLayer(ctx, tmp)
	if err != nil {
		return nil, err
	}
	prepared := filepath.Join(tmp, "prepared")
	if err := os.Mkdir(prepared, 0o755); err != nil {
		return nil, err
	}
	layers, copies, err := bed.Layers(ctx, prepared, rootfs, bed.Options{
		Suite: opts.Suite, Name: "vm", Layers: opts.Layers, Product: opts.Product, Registry: opts.Registry,
	})
	if err != nil {
		return nil, err
	}
	layers = append([]string{own}, layers...)
	return &parts{layers: append(layers, rootfs), copies: copies, agent: filepath.Join(own, agentPath)}, nil
}

// key identifies the disk that the parts make.
func (p *parts) key() (string, error) {
	sum := sha256.New()
	top := len(p.layers) - 1
	fmt.Fprintln(sum, imageVersion, diskSize, initrdModules, filepath.Base(p.layers[top]))
	for _, layer := range p.layers[:top] {
		if err := hashTree(sum, layer); err != nil {
			return "", err
		}
	}
	for _, c := range p.copies {
		fmt.Fprintf(sum, "%q\n", c.Target)
		if err := hashTree(sum, c.Source); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

const agentPath = "usr/lib/atomic-test/agent"

// agentLayer builds the agent and its unit into a directory below tmp.
func agentLayer(ctx context.Context, tmp string) (string, error) {
	layer := filepath.Join(tmp, "agent")
	units := filepath.Join(layer, "etc/systemd/system")
	if err := os.MkdirAll(filepath.Join(units, "sysinit.target.wants"), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(units, "vm-agent.service"), []byte(agentUnit), 0o644); err != nil {
		return "", err
	}
	if err := os.Symlink("../vm-agent.service", filepath.Join(units, "sysinit.target.wants/vm-agent.service")); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
		"-o", filepath.Join(layer, agentPath), "github.com/atomic-agent/atomic/test/vm/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build agent: %w\n%s", err, out)
	}
	// Newer than /usr, so that no unit with ConditionNeedsUpdate= runs.
	for _, dir := range []string{"etc", "var"} {
		if err := os.MkdirAll(filepath.Join(layer, dir), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(layer, dir, ".updated"), nil, 0o644); err != nil {
			return "", err
		}
	}
	return layer, nil
}

// makeDiskScript merges the layers with overlayfs, mounts the copies into them,
// and lets mke2fs write it all down. Arguments: layers, mount point, image,
// size, and pairs of source and target. Verity needs blocks of a page.
const makeDiskScript = `set -e
layers=$1 root=$2 image=$3 size=$4
shift 4
mount -t overlay -o "ro,lowerdir=$layers" vm "$root"
while [ $# -gt 0 ]; do
	mount --bind "$1" "$root$2"
	shift 2
done
exec mke2fs -q -F -t ext4 -O verity -b 4096 -m 0 -L root -d "$root" "$image" "$size"
`

// makeDisk writes the file system image, in a mount namespace of its own so
// that no mount can stay behind.
func (p *parts) makeDisk(ctx context.Context, path, tmp string) error {
	merged := filepath.Join(tmp, "merged")
	if err := os.Mkdir(merged, 0o755); err != nil {
		return err
	}
	args := []string{
		"--mount", "--propagation", "private", "sh", "-c", makeDiskScript, "sh",
		strings.Join(p.layers, ":"), merged, path, diskSize,
	}
	for _, c := range p.copies {
		args = append(args, c.Source, c.Target)
	}
	if out, err := exec.CommandContext(ctx, "unshare", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// hashTree adds names, types, modes and contents below root to w.
func hashTree(w io.Writer, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%q %v ", rel, info.Mode())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%q\n", target)
		case info.Mode().IsRegular():
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			fmt.Fprintln(w, info.Size())
			_, err = io.Copy(w, f)
			return err
		}
		return nil
	})
}

// pruneImages removes all but the last used images.
func pruneImages(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "image-*"))
	if err != nil {
		return err
	}
	age := map[string]int64{}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			age[name] = info.ModTime().UnixNano()
		}
	}
	sort.Slice(names, func(i, j int) bool { return age[names[i]] > age[names[j]] })
	for _, name := range names[min(len(names), keepImages):] {
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}
