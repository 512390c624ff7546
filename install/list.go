// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/health"
	"github.com/atomic-agent/atomic/install/intent"
	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store"
	"github.com/atomic-agent/atomic/install/systemd"
	"github.com/atomic-agent/atomic/internal/hint"
)

// Container is a container as `containers list` shows it.
type Container struct {
	Name       string
	Image      string
	ImageID    string
	Command    string
	Created    time.Time
	State      string // "running", "failed", "inactive", "no service" or "damaged"
	Runtime    string
	Generation int
	Signature  record.Signature
	// Verified says that the kernel verifies the root file system.
	Verified bool
	// Problem says why the container cannot be read; its State is "damaged".
	Problem string
	// Health is what its health checks have said so far; "" if it has none, or
	// was not asked yet.
	Health health.Status
	// Unsettled says that a command was interrupted and the next one settles it.
	Unsettled bool
}

// Containers lists all containers, sorted by name. Whatever is damaged is
// listed as such: one container's state is never a reason not to see another.
func (a *Agent) Containers(ctx context.Context) ([]Container, error) {
	names, err := a.names()
	if err != nil {
		return nil, hint.Root(err)
	}
	unsettled := map[string]bool{}
	if list, err := intent.List(a.host.Intents()); err == nil {
		for _, n := range list {
			unsettled[n] = true
		}
	}
	var states map[string]systemd.State
	var serr error
	var asked sync.WaitGroup
	asked.Go(func() { states, serr = a.sd.UpOrFailed(ctx) })
	list := make([]Container, len(names))
	inParallel(len(names), func(i int) {
		list[i] = a.container(names[i])
		list[i].Unsettled = unsettled[names[i]]
	})
	asked.Wait()
	if serr != nil {
		a.log.Warn("ask systemd for states, ignoring", "err", serr)
	}
	for i := range list {
		c := &list[i]
		if c.State != "" {
			continue
		}
		switch s := states[c.Name+".service"]; {
		case s.Running():
			c.State = "running"
			c.Health = a.Health(c.Name).Status
		case s.Active == "failed":
			c.State = "failed"
		default:
			c.State = "inactive"
		}
	}
	return list, nil
}

// Health is what the launcher has noted about a container that runs.
func (a *Agent) Health(name string) health.State {
	s, err := health.Read(filepath.Join(a.host.Run(name), "health"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		a.log.Warn("read a container's health, ignoring", "err", err)
	}
	return s
}

// inParallel calls f with the numbers below n, on all processors.
func inParallel(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

func (a *Agent) container(name string) Container {
	c := Container{Name: name, Generation: intent.None}
	d, err := a.glanceAt(name)
	if err != nil {
		d, err = a.current(name)
	}
	if err == nil && d == nil {
		err = os.ErrNotExist
	}
	if err != nil {
		c.State, c.Problem = "damaged", err.Error()
		return c
	}
	c.Image, c.ImageID, c.Runtime = d.rec.Image, d.rec.Revision, d.rec.Runtime
	c.Created, c.Generation = time.Unix(d.rec.Created, 0), d.gen
	c.Signature, c.Verified = d.rec.Atomic.Signature, d.rec.Atomic.Rootfs.Enforced
	c.Command = command(filepath.Join(d.dir(), "config.json"))
	if !d.rec.HasContainerService {
		c.State = "no service"
	}
	return c
}

// glanceAt is current with as much of the record as a list needs.
func (a *Agent) glanceAt(name string) (*deployment, error) {
	gen, err := a.currentGeneration(name)
	if err != nil {
		return nil, err
	}
	d := &deployment{host: a.host, name: name, gen: gen}
	err = readSmall(filepath.Join(d.dir(), "info"), recordMax, func(data []byte) (err error) {
		d.rec, err = glance(data)
		return err
	})
	if err == nil && (d.rec.Atomic.Name != name || d.rec.Atomic.Generation != gen) {
		err = errOpaque
	}
	return d, err
}

// commandMax is how far command reads; the arguments are close to the beginning
// of what unitgen writes.
const commandMax = 4096

// command reads what a configuration executes; "" if it says nothing, or too
// late to read it for a list.
func command(file string) string {
	var args []string
	err := readSmall(file, commandMax, func(data []byte) error {
		value := member(member(data, "process"), "args")
		end := valueEnd(value, 0)
		if end < 0 {
			return errOpaque
		}
		return json.Unmarshal(value[:end], &args)
	})
	if err != nil {
		return ""
	}
	return strings.Join(args, " ")
}

// recordMax is more than package record accepts.
const recordMax = 16 << 20

// buffers are for readSmall: fresh memory costs more than reading.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8192); return &b }}

// readSmall passes at most limit bytes of a file to use, which must not keep
// them. It takes three system calls; an os.File takes ten, which is most of the
// time of a list.
func readSmall(file string, limit int, use func(data []byte) error) error {
	fd, err := open(file)
	if err != nil {
		return &fs.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)           //nolint:errcheck // nothing was written
	buf := buffers.Get().(*[]byte) //nolint:forcetypeassert // see New
	defer buffers.Put(buf)
	data := (*buf)[:0]
	for len(data) < limit {
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
		room := data[len(data):min(cap(data), limit)]
		n, err := unix.Read(fd, room)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "read", Path: file, Err: err}
		}
		data = data[:len(data)+n]
		if n < len(room) {
			break // the end of a regular file
		}
	}
	*buf = data[:0]
	return use(data)
}

func open(file string) (fd int, err error) {
	for {
		fd, err = unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// Record returns the current record of a container, or ErrNotInstalled.
func (a *Agent) Record(name string) (*record.Record, error) {
	d, err := a.deployed(name)
	if err != nil {
		return nil, err
	}
	return d.rec, nil
}

// Image is an image as `images list` shows it.
type Image struct {
	store.ImageInfo
	// Used says that a container is installed from it.
	Used bool
}

// Images lists the images in the store, sorted by name.
func (a *Agent) Images() ([]Image, error) {
	if _, err := os.Lstat(a.host.Store()); os.IsNotExist(err) {
		return nil, nil
	}
	st, err := a.openStore()
	if err != nil {
		return nil, hint.Root(err)
	}
	infos, err := st.Images()
	if err != nil {
		return nil, err
	}
	refs, err := st.Refs()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, r := range refs {
		used[r.ManifestDigest] = true
	}
	list := make([]Image, len(infos))
	for i, info := range infos {
		list[i] = Image{ImageInfo: info, Used: used[info.ManifestDigest]}
	}
	return list, nil
}
