// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/signature"
	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/store/oci"
)

// importCommand makes this program import one image, to be measured alone.
const importCommand = "import"

func importImage(ctx context.Context, image, storeDir string) error {
	s, err := store.Open(storeDir, store.Options{})
	if err != nil {
		return err
	}
	txn, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer txn.Abort()
	src, sys, err := source(image)
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
	if _, err := copy.Image(ctx, policy, dest, src, &copy.Options{SourceCtx: sys, RemoveSignatures: true}); err != nil {
		return err
	}
	img, err := dest.Image()
	if err != nil {
		return err
	}
	rootfs, err := txn.PutImage(img.Tree)
	if err != nil {
		return err
	}
	if err := txn.SetRef("bench", 0, store.RefInfo{Image: rootfs, ManifestDigest: img.ManifestDigest}); err != nil {
		return err
	}
	return txn.Commit()
}

// turn is what one contender does on one fresh file system: store an image, and
// then perhaps the next version of it, or use it.
type turn struct {
	what, who     string
	first, second string
	run           func(dir, image string) (sample, error)
	use           bool
}

func (b *bench) turns(ctx context.Context, layouts map[string]string) ([]turn, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := registry(ctx, layouts)
	if err != nil {
		return nil, err
	}
	atomic := func(dir, image string) (sample, error) {
		return timed(ctx, dir, self, importCommand, image, dir+"/store")
	}
	podman := func(dir, image string) (sample, error) { return b.pull(ctx, dir, image) }
	floor := func(dir, layout string) (sample, error) { return timed(ctx, dir, self, floorCommand, layout, dir) }
	var turns []turn
	for _, kind := range []string{"gzip", "zstd"} {
		layout, second := "oci:"+layouts[kind], ""
		if kind == "gzip" {
			second = "oci:" + layouts["2"]
		}
		pulled := "docker://" + addr + "/big:" + kind
		turns = append(turns,
			turn{what: kind, who: "atomic", first: layout, second: second, run: atomic, use: second == ""},
			turn{what: kind, who: "tar", first: layouts[kind], use: second == "", run: func(dir, layout string) (sample, error) {
				return untar(ctx, dir, kind, layout)
			}},
			turn{what: kind, who: "floor", first: layouts[kind], run: floor},
			turn{what: kind, who: "podman pull", first: layout, second: second, run: podman},
			turn{what: kind + ", registry", who: "atomic", first: pulled, run: atomic},
			turn{what: kind + ", registry", who: "podman pull", first: pulled, run: podman},
		)
	}
	turns = append(turns, turn{what: "second image", who: "floor", first: layouts["2"], run: func(dir, layout string) (sample, error) {
		return timed(ctx, dir, self, floorCommand, layout, "") // what is the same need not be written
	}})
	if b.podman == "" {
		turns = slices.DeleteFunc(turns, func(t turn) bool { return t.who == "podman pull" })
	}
	return turns, nil
}

// measure has every turn b.runs times.
func (b *bench) measure(ctx context.Context, layouts map[string]string) ([]*result, error) {
	turns, err := b.turns(ctx, layouts)
	if err != nil {
		return nil, err
	}
	// What is measured finds the images in memory and the disk image allocated.
	warm := turns[0]
	warm.second = ""
	if err := b.turn(ctx, warm, func(string, string, sample) {}); err != nil {
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
		for _, t := range turns {
			if err := b.turn(ctx, t, add); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

func (b *bench) turn(ctx context.Context, t turn, add func(what, who string, s sample)) error {
	dir, done, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, err := t.run(dir, t.first)
	if err != nil {
		return err
	}
	add(t.what, t.who, s)
	if t.use {
		if err := b.use(ctx, dir, t.who, add); err != nil {
			return err
		}
	}
	if t.second == "" {
		return nil
	}
	before := s.disk
	if s, err = t.run(dir, t.second); err != nil {
		return err
	}
	s.disk -= before
	add("second image", t.who, s)
	return nil
}

// fresh returns an empty directory on a file system of its own: what others
// delete, and ourselves in the run before, slows down the creation of files on
// ext4 for minutes. The loop device does direct I/O, as a disk would: else every
// byte would be in memory twice, and the copying compete with what is measured.
// done takes the directory away.
func (b *bench) fresh(ctx context.Context) (dir string, done func(), err error) {
	if b.plain {
		dir, err = os.MkdirTemp(b.work, "dir-")
		return dir, func() { _ = os.RemoveAll(dir) }, err
	}
	dir = filepath.Join(b.work, "mnt")
	script := `truncate -s 8G "$1"; mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard "$1"; mkdir -p "$2"; ` + mountDisk
	return dir, func() { _ = unix.Unmount(dir, 0) }, b.disk(ctx, script)
}

const mountDisk = `dev=$(losetup --find --show --direct-io=on "$1"); trap 'losetup -d "$dev"' EXIT; mount -o noinit_itable "$dev" "$2"`

func (b *bench) disk(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "sh", "-ec", script, "sh", filepath.Join(b.work, "disk"), filepath.Join(b.work, "mnt"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fresh file system: %w: %s", err, out)
	}
	return nil
}

// forget leaves nothing of the file system in memory. Dropping caches would
// leave what the journal has still to write back, like most directories.
func (b *bench) forget(ctx context.Context) error {
	unix.Sync()
	if b.plain {
		return nil
	}
	return b.disk(ctx, `umount "$2"; `+mountDisk)
}

// timed runs a program until what it wrote to dir is on disk. It does so by
// running itself: the memory of a child is at least what its parent has ever
// had, and we have had whole images.
func timed(ctx context.Context, dir string, name string, args ...string) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	unix.Sync()
	cmd := exec.CommandContext(ctx, self, append([]string{timeCommand, dir, name}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w: %s", name, err, said.Bytes())
	}
	var s sample
	if _, err := fmt.Sscan(string(out), &s.wall, &s.cpu, &s.rss); err != nil {
		return sample{}, fmt.Errorf("time of %s: %w", name, err)
	}
	s.disk, err = diskUsage(dir)
	return s, err
}

// timeCommand makes this program run and time another one.
const timeCommand = "time"

func timeProgram(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return err
	}
	if err := syncFS(dir); err != nil {
		return err
	}
	wall := time.Since(start)
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("no usage")
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	_, err := fmt.Println(int64(wall), int64(cpu), usage.Maxrss<<10)
	return err
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

// descriptor is the part of an OCI descriptor that counts here.
type descriptor struct{ Digest string }

func (d descriptor) path(layoutDir string) string {
	return filepath.Join(layoutDir, "blobs", strings.Replace(d.Digest, ":", "/", 1))
}

// readIndex returns the only manifest of an OCI layout.
func readIndex(layoutDir string) (descriptor, error) {
	var index struct{ Manifests []descriptor }
	if err := readJSON(filepath.Join(layoutDir, "index.json"), &index); err != nil {
		return descriptor{}, err
	}
	if len(index.Manifests) != 1 {
		return descriptor{}, fmt.Errorf("%s has %d images", layoutDir, len(index.Manifests))
	}
	return index.Manifests[0], nil
}

// layers returns the files of an OCI layout's only image's layers.
func layers(layoutDir string) ([]string, error) {
	d, err := readIndex(layoutDir)
	if err != nil {
		return nil, err
	}
	var manifest struct{ Layers []descriptor }
	if err := readJSON(d.path(layoutDir), &manifest); err != nil {
		return nil, err
	}
	var files []string
	for _, l := range manifest.Layers {
		files = append(files, l.path(layoutDir))
	}
	return files, nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// pull runs podman in its own Debian: a read-only root, with our directories
// bound into it. Its storage is where ours is, in a fresh directory.
func (b *bench) pull(ctx context.Context, dir, image string) (sample, error) {
	const script = `set -e
root=$1; storage=$2; image=$3; layout=${image#oci:}
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
case $image in oci:*) mount --bind "$layout" "$root/mnt/layout"; image=oci:/mnt/layout; esac
exec chroot "$root" env PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman --root /mnt/storage --runroot /run/podman --storage-driver overlay \
	pull --quiet --tls-verify=false --signature-policy /srv/policy.json "$image"`
	withPolicy := strings.Replace(script, "exec chroot",
		`echo '{"default":[{"type":"insecureAcceptAnything"}]}' > "$root/srv/policy.json"`+"\nexec chroot", 1)
	return timed(ctx, dir, "unshare", "--mount", "--propagation", "private", "sh", "-c", withPolicy, "sh", b.podman, dir, image)
}
