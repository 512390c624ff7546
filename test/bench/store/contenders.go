// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.podman.io/image/v5/copy"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/signature"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/oci"
)

// importCommand makes this program import one image, to be measured alone.
const importCommand = "import"

func importImage(ctx context.Context, layoutDir, storeDir string) error {
	s, err := store.Open(storeDir, store.Options{})
	if err != nil {
		return err
	}
	txn, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer txn.Abort()
	src, err := ocilayout.NewReference(layoutDir, "")
	if err != nil {
		return err
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return err
	}
	dest := oci.NewReference(txn, nil)
	if _, err := copy.Image(ctx, policy, dest, src, &copy.Options{RemoveSignatures: true}); err != nil {
		return err
	}
	img, err := dest.Image()
	if err != nil {
		return err
	}
	image, err := txn.PutImage(img.Tree)
	if err != nil {
		return err
	}
	if err := txn.SetRef("bench", 0, store.RefInfo{Image: image, ManifestDigest: img.ManifestDigest}); err != nil {
		return err
	}
	return txn.Commit()
}

// measure runs every contender b.runs times, in turns.
func (b *bench) measure(ctx context.Context, layouts map[string]string) ([]*result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var results []*result
	byName := map[string]*result{}
	add := func(what, who string, s sample) {
		r := byName[what+who]
		if r == nil {
			r = &result{what: what, who: who}
			byName[what+who] = r
			results = append(results, r)
		}
		r.samples = append(r.samples, s)
	}
	for n := range b.runs {
		fmt.Fprintf(b.log, "run %d of %d\n", n+1, b.runs)
		for _, kind := range []string{"gzip", "zstd"} {
			atomic := func(dir, layout string) (sample, error) {
				return timed(ctx, dir, self, importCommand, layout, dir+"/store")
			}
			untar := func(dir, layout string) (sample, error) { return untar(ctx, dir, kind, layout) }
			podman := func(dir, layout string) (sample, error) { return b.pull(ctx, dir, layout) }
			contenders := map[string]func(dir, layout string) (sample, error){"atomic": atomic, "tar": untar}
			order := []string{"atomic", "tar"}
			if b.podman != "" {
				contenders["podman pull"] = podman
				order = append(order, "podman pull")
			}
			for _, who := range order {
				second := ""
				if kind == "gzip" && who != "tar" {
					second = layouts["2"]
				}
				if err := b.turn(ctx, kind, who, layouts[kind], second, contenders[who], add); err != nil {
					return nil, err
				}
			}
		}
	}
	return results, nil
}

// turn lets one contender have an image, and then the next version of it.
func (b *bench) turn(ctx context.Context, kind, who, first, second string,
	run func(dir, layout string) (sample, error), add func(what, who string, s sample),
) error {
	dir, done, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, err := run(dir, first)
	if err != nil {
		return err
	}
	add(kind, who, s)
	if kind == "zstd" && who != "podman pull" {
		if err := b.use(dir, who, add); err != nil {
			return err
		}
	}
	if second == "" {
		return nil
	}
	before := s.disk
	if s, err = run(dir, second); err != nil {
		return err
	}
	s.disk -= before
	add("second image", who, s)
	return nil
}

// fresh returns an empty directory on a file system of its own: what others
// delete, and ourselves in the run before, slows down the creation of files on
// ext4 for minutes. done takes it away.
func (b *bench) fresh(ctx context.Context) (dir string, done func(), err error) {
	top, err := os.MkdirTemp(b.work, "dir-")
	if err != nil || b.plain {
		return top, func() { _ = os.RemoveAll(top) }, err
	}
	img, dir := filepath.Join(top, "img"), filepath.Join(top, "mnt")
	script := `set -e; truncate -s 8G "$1"; mkfs.ext4 -q -E lazy_itable_init=1,nodiscard "$1"; mkdir "$2"; mount -o loop,noinit_itable "$1" "$2"`
	out, err := exec.CommandContext(ctx, "sh", "-c", script, "sh", img, dir).CombinedOutput()
	if err != nil {
		return "", nil, fmt.Errorf("fresh file system: %w: %s", err, out)
	}
	return dir, func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.RemoveAll(top)
	}, nil
}

// timed runs a program until what it wrote to dir is on disk.
func timed(ctx context.Context, dir string, name string, args ...string) (sample, error) {
	unix.Sync()
	debug.FreeOSMemory() // until it executes, a child has our memory, and that counts as its own
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return sample{}, fmt.Errorf("%s: %w: %s", name, err, out.Bytes())
	}
	if err := syncFS(dir); err != nil {
		return sample{}, err
	}
	s := sample{wall: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.rss = usage.Maxrss << 10
	}
	var err error
	s.disk, err = diskUsage(dir)
	return s, err
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func diskUsage(dir string) (int64, error) {
	total := int64(0)
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if !seen[st.Ino] {
			seen[st.Ino] = true
			total += st.Blocks * 512
		}
		return nil
	})
	return total, err
}

// untar unpacks the layers one after the other into one directory.
func untar(ctx context.Context, dir, kind, layoutDir string) (sample, error) {
	blobs, err := layers(layoutDir)
	if err != nil {
		return sample{}, err
	}
	script := "set -e\n"
	for _, blob := range blobs {
		script += fmt.Sprintf("tar --%s -xpf %s -C %s\n", kind, blob, dir)
	}
	return timed(ctx, dir, "sh", "-c", script)
}

// layers returns the files of an OCI layout's only image's layers.
func layers(layoutDir string) ([]string, error) {
	type desc struct{ Digest string }
	var index struct{ Manifests []desc }
	var manifest struct{ Layers []desc }
	blob := func(d desc) string {
		return filepath.Join(layoutDir, "blobs", strings.Replace(d.Digest, ":", "/", 1))
	}
	for path, v := filepath.Join(layoutDir, "index.json"), any(&index); ; {
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			return nil, err
		}
		if v == any(&manifest) {
			break
		}
		if len(index.Manifests) != 1 {
			return nil, fmt.Errorf("%s has %d images", layoutDir, len(index.Manifests))
		}
		path, v = blob(index.Manifests[0]), &manifest
	}
	var files []string
	for _, l := range manifest.Layers {
		files = append(files, blob(l))
	}
	return files, nil
}

// pull runs podman in its own Debian: a read-only root, with our directories
// bound into it. Its storage is where ours is, in a fresh directory.
func (b *bench) pull(ctx context.Context, dir, layoutDir string) (sample, error) {
	const script = `set -e
root=$1; storage=$2; layout=$3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
for d in run tmp mnt srv; do mount -t tmpfs tmpfs "$root/$d"; done
mkdir "$root/mnt/storage" "$root/mnt/layout"
mount --bind "$storage" "$root/mnt/storage"
mkdir -p "$storage/tmp"
mount --bind "$storage/tmp" "$root/var/tmp"
mount --bind "$layout" "$root/mnt/layout"
exec chroot "$root" env PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman --root /mnt/storage --runroot /run/podman --storage-driver overlay \
	pull --quiet --signature-policy /srv/policy.json oci:/mnt/layout`
	withPolicy := strings.Replace(script, "exec chroot",
		`echo '{"default":[{"type":"insecureAcceptAnything"}]}' > "$root/srv/policy.json"`+"\nexec chroot", 1)
	return timed(ctx, dir, "unshare", "--mount", "--propagation", "private", "sh", "-c", withPolicy, "sh", b.podman, dir, layoutDir)
}
