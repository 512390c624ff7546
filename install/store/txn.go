// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/tree"
	"github.com/atomic-agent/atomic/install/store/verity"
)

// Txn is one change of the store. Nothing of it is visible before Commit.
// Every Txn ends with Commit or Abort; Abort after Commit does nothing, so it
// can be deferred. The Put methods may be called by several goroutines.
type Txn struct {
	s    *Store
	ctx  context.Context //nolint:containedctx // the transaction is the scope of the context
	lock *os.File        // the store's lock, shared
	hold *os.File        // the staging directory, locked
	dir  string          // its path

	mu      sync.Mutex
	staged  map[verity.Digest]bool
	links   map[string]verity.Digest // "layers/sha256:…" to object
	layers  map[string][]tree.Item   // layer lists that are in memory already
	files   map[string][]byte        // small JSON files to publish last
	refs    map[string]string        // "refs/NAME/N" to image
	space   spaceGuard
	charged atomic.Int64 // memory of the metadata
	temp    int
	done    bool

	shards    [256]bool    // directories in the staging directory
	unflushed atomic.Int64 // bytes written since the last flush
	flushing  atomic.Bool
	flusher   sync.WaitGroup
}

// Begin starts a transaction. It waits for a running gc as long as ctx lives;
// ctx also bounds the transaction itself.
func (s *Store) Begin(ctx context.Context) (*Txn, error) {
	t := &Txn{
		s: s, ctx: ctx,
		staged: map[verity.Digest]bool{},
		links:  map[string]verity.Digest{},
		layers: map[string][]tree.Item{},
		files:  map[string][]byte{},
		refs:   map[string]string{},
	}
	var err error
	if t.lock, err = s.lock(ctx, unix.LOCK_SH); err != nil {
		return nil, err
	}
	s.sweepStaging()
	if err := t.stage(); err != nil {
		t.lock.Close()
		return nil, fmt.Errorf("begin transaction: %w", s.explain(err))
	}
	return t, nil
}

// Store returns the store that the transaction changes.
func (t *Txn) Store() *Store { return t.s }

// stage makes the staging directory BOOT.PID.RANDOM and locks it.
func (t *Txn) stage() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = []byte("unknown")
	}
	prefix := strings.TrimSpace(string(boot)) + "." + strconv.Itoa(os.Getpid()) + "."
	for range 100 {
		if t.dir, err = os.MkdirTemp(t.s.path("staging"), prefix+"*"); err != nil {
			return err
		}
		// Until it is locked, a sweeper may take it for dead and remove it.
		if t.hold, err = os.Open(t.dir); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err = unix.Flock(int(t.hold.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			var st unix.Stat_t
			if unix.Lstat(t.dir, &st) == nil {
				return nil
			}
		}
		t.hold.Close()
	}
	return fmt.Errorf("lock staging directory: %w", err)
}

// sweepStaging removes what dead transactions left.
func (s *Store) sweepStaging() {
	entries, err := os.ReadDir(s.path("staging"))
	if err != nil {
		return
	}
	for _, e := range entries {
		f, err := os.Open(s.path("staging", e.Name()))
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(s.path("staging", e.Name())) // the next one tries again
		}
		f.Close()
	}
}

// Abort drops everything that is not committed.
func (t *Txn) Abort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

func (t *Txn) end() {
	if t.done {
		return
	}
	t.done = true
	t.flusher.Wait()
	_ = os.RemoveAll(t.dir) // else the next transaction sweeps it
	t.hold.Close()
	t.lock.Close()
}

// PutObject stores the pieces as one object and returns its name.
func (t *Txn) PutObject(pieces ...[]byte) (verity.Digest, error) {
	d := verity.Of(pieces...)
	return d, t.putNamed(d, pieces...)
}

func (t *Txn) putNamed(d verity.Digest, pieces ...[]byte) error {
	size := int64(0)
	for _, b := range pieces {
		size += int64(len(b))
	}
	fresh, err := t.claim(d, size)
	if !fresh || err != nil {
		return err
	}
	err = t.makeShard(d)
	if err == nil {
		err = t.create(d.Path(), pieces)
	}
	if err == nil {
		err = t.s.seal(filepath.Join(t.dir, d.Path()))
	}
	if err != nil {
		return fmt.Errorf("write object: %w", t.s.explain(err))
	}
	t.written(size)
	return nil
}

// create makes a file in the staging directory. There are tens of thousands of
// them, so it makes no more system calls than it must.
func (t *Txn) create(name string, pieces [][]byte) error {
	fd, err := unix.Openat(int(t.hold.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Join(t.dir, name), Err: err}
	}
	for _, b := range pieces {
		for len(b) > 0 && err == nil {
			var n int
			n, err = unix.Write(fd, b)
			if errors.Is(err, unix.EINTR) {
				err = nil
				continue
			}
			b = b[max(n, 0):]
		}
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: filepath.Join(t.dir, name), Err: err}
	}
	return nil
}

// makeShard makes the directory that an object is staged in. Staged objects are
// where they will be below objects/, so that a whole directory can be published
// at once where there is none yet.
func (t *Txn) makeShard(d verity.Digest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shards[d[0]] {
		return nil
	}
	name := d.Path()[:2]
	if err := unix.Mkdirat(int(t.hold.Fd()), name, 0o755); err != nil {
		return &fs.PathError{Op: "mkdir", Path: filepath.Join(t.dir, name), Err: err}
	}
	t.shards[d[0]] = true
	return nil
}

// flushStep is how much is written before it is sent to the disk.
const flushStep = 64 << 20

// written sends what was written to the disk now and then, beside everything
// else, so that the sync at the commit has less to wait for.
func (t *Txn) written(size int64) {
	if t.unflushed.Add(size) >= flushStep {
		t.flush()
	}
}

// flush begins to send everything to the disk, unless that is going on.
func (t *Txn) flush() {
	if t.unflushed.Load() == 0 || !t.flushing.CompareAndSwap(false, true) {
		return
	}
	// A descriptor of its own: an error is told once to each, and the sync at
	// the commit must be told.
	dir, err := os.Open(t.dir)
	if err != nil {
		return // the sync at the commit does it all
	}
	t.unflushed.Store(0)
	t.flusher.Go(func() {
		_ = unix.Syncfs(int(dir.Fd()))
		dir.Close()
		t.flushing.Store(false)
	})
}

// claim reports whether this caller is the one to write the object. It is not
// if the object is in the store or staged already.
func (t *Txn) claim(d verity.Digest, size int64) (bool, error) {
	if err := t.ctx.Err(); err != nil {
		return false, context.Cause(t.ctx)
	}
	t.mu.Lock()
	if t.staged[d] {
		t.mu.Unlock()
		return false, nil
	}
	t.staged[d] = true
	t.mu.Unlock()
	if t.s.has(d, size) {
		t.mu.Lock()
		delete(t.staged, d)
		t.mu.Unlock()
		return false, nil
	}
	return true, t.s.explain(t.space.take(t.s.dir, size))
}

// has reports whether the object is staged or in the store.
func (t *Txn) has(d verity.Digest, size int64) bool {
	t.mu.Lock()
	staged := t.staged[d]
	t.mu.Unlock()
	return staged || t.s.has(d, size)
}

// has reports whether the object is in the store with the right size and, if
// this store has it, with fs-verity.
func (s *Store) has(d verity.Digest, size int64) bool {
	var st unix.Stat_t
	path := s.objectPath(d)
	if unix.Lstat(path, &st) != nil || st.Size != size || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	if !s.verity {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	m, err := verity.Measure(f)
	if errors.Is(err, verity.ErrNotEnabled) {
		// From before the store had fs-verity. Enabling reads the content, so
		// the kernel's digest tells whether it is still right.
		if verity.Enable(f) != nil {
			return false
		}
		m, err = verity.Measure(f)
	}
	return err == nil && m == d
}

// seal enables fs-verity on a file that is complete.
func (s *Store) seal(path string) error {
	if !s.verity {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// A process forked elsewhere holds the writing descriptor until it execs.
	for range 1000 {
		if err = verity.Enable(f); !errors.Is(err, unix.ETXTBSY) {
			break
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) //nolint:errcheck // only a pause
	}
	return err
}

// ObjectWriter is an object of unknown content on its way into the store.
type ObjectWriter struct {
	t    *Txn
	f    *os.File
	h    verity.Hasher
	size int64
}

// NewObject starts an object that is too big to be held in memory. size is how
// much is expected.
func (t *Txn) NewObject(size int64) (*ObjectWriter, error) {
	if err := t.space.take(t.s.dir, size); err != nil {
		return nil, t.s.explain(err)
	}
	t.mu.Lock()
	t.temp++
	name := filepath.Join(t.dir, "tmp"+strconv.Itoa(t.temp))
	t.mu.Unlock()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("write object: %w", t.s.explain(err))
	}
	return &ObjectWriter{t: t, f: f}, nil
}

// Write adds to the object.
func (w *ObjectWriter) Write(p []byte) (int, error) {
	if w.t.ctx.Err() != nil {
		return 0, context.Cause(w.t.ctx)
	}
	n := len(p)
	var err error
	if len(p) >= verity.BlockSize && allZero(p) {
		_, err = w.f.Seek(int64(len(p)), io.SeekCurrent) // a hole costs no space
	} else {
		n, err = w.f.Write(p)
	}
	_, _ = w.h.Write(p[:n]) // Write never fails
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write object: %w", w.t.s.explain(err))
	}
	return n, nil
}

func allZero(p []byte) bool {
	return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// Finish stages the object and returns its name.
func (w *ObjectWriter) Finish() (verity.Digest, error) {
	d := w.h.Sum()
	err := w.f.Truncate(w.size) // it may end in a hole
	if cerr := w.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return d, fmt.Errorf("write object: %w", w.t.s.explain(err))
	}
	fresh, err := w.t.claim(d, w.size)
	if err != nil {
		return d, err
	}
	if !fresh {
		return d, os.Remove(w.f.Name())
	}
	err = w.t.makeShard(d)
	if err == nil {
		err = w.t.s.seal(w.f.Name())
	}
	if err == nil {
		err = os.Rename(w.f.Name(), filepath.Join(w.t.dir, d.Path()))
	}
	if err != nil {
		return d, fmt.Errorf("write object: %w", w.t.s.explain(err))
	}
	w.t.written(w.size)
	return d, nil
}

// Discard gives up an object that is not finished.
func (w *ObjectWriter) Discard() {
	w.f.Close()
	_ = os.Remove(w.f.Name()) // else the transaction's end removes it
}

// OpenObject opens an object that is in the store or staged.
func (t *Txn) OpenObject(d verity.Digest) (io.ReadCloser, error) {
	t.mu.Lock()
	staged := t.staged[d]
	t.mu.Unlock()
	if staged {
		return os.Open(filepath.Join(t.dir, d.Path()))
	}
	return t.s.openObject(d)
}

// link gives an object a name at commit.
func (t *Txn) link(dir, name string, d verity.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.links[dir+"/"+name] = d
}

// lookup finds the object of a name, staged or not.
func (t *Txn) lookup(dir, name string) (verity.Digest, error) {
	t.mu.Lock()
	d, ok := t.links[dir+"/"+name]
	t.mu.Unlock()
	if ok {
		return d, nil
	}
	return t.s.readLink(dir, name)
}

func (t *Txn) putFile(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files[name] = append(b, '\n')
	return nil
}

// spaceGuard notices that the disk is getting full before it is: a full file
// system harms everybody on it.
type spaceGuard struct {
	mu    sync.Mutex
	since int64
}

const spaceStep = 64 << 20

func (g *spaceGuard) take(dir string, size int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since += size; g.since < spaceStep && size < spaceStep/8 {
		return nil
	}
	g.since = 0
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	free, total := int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	reserve := min(total/50, 256<<20)
	if free < size+reserve {
		return fmt.Errorf("%d MiB free on the file system of %s: %w", free>>20, dir, unix.ENOSPC)
	}
	return nil
}
