// SPDX-License-Identifier: Apache-2.0

// Package store keeps images: read-only, deduplicated, verified.
//
// Everything is an object, a file named by the fs-verity digest of its
// content: file contents, the EROFS images made of them, layer lists,
// manifests and configs. The other directories only give objects names:
//
//	meta.json   what this store is (version, algorithm, verity policy)
//	lock        flock: shared by every transaction, exclusive for gc
//	objects/    xx/<62 hex digits>
//	images/     <64 hex>      -> ../objects/…   what may be mounted
//	layers/     sha256:<hex>  -> ../objects/…   entry list of a layer, by blob
//	manifests/  sha256:<hex>  -> ../objects/…
//	configs/    sha256:<hex>  -> ../objects/…
//	tags/       one JSON file per image name that was pulled
//	refs/       <name>/<generation> -> ../../images/… and <generation>.json
//	staging/    one locked directory per transaction
//	quarantine/ objects that fsck found damaged
//
// There is no database and no daemon: the tree is the index. A transaction
// writes into its own staging directory, syncs the file system once, and
// renames; names come last, so that a name never refers to something that is
// not on disk, whenever the power goes. Mounting takes no lock
// (package mount). docs/formats/store.md specifies every file.
package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/verity"
	"github.com/atomic-agent/atomic/internal/hint"
)

// Version is the version of the layout, in meta.json.
const Version = 1

const algorithm = "fsverity-sha256-12"

var (
	// ErrNotFound is returned when the store has no such image, ref or object.
	ErrNotFound = errors.New("not in the store")
	// ErrBusy is returned when the lock was not free in time.
	ErrBusy = errors.New("the store is in use")
	// ErrCorrupt is returned for an object whose content is not what its name says.
	ErrCorrupt = errors.New("object is damaged")
	// ErrMetadata is returned for an image with more metadata than Options allow.
	ErrMetadata = errors.New("the image has too much metadata")
)

// Options are the choices of Open.
type Options struct {
	// Verity is the policy: "require", "try" (also when empty) or "off".
	Verity string
	// MaxMetadata is how many bytes the metadata of one image may take in
	// memory; 0 is DefaultMaxMetadata.
	MaxMetadata int64
}

// DefaultMaxMetadata is enough for some 200,000 files, and keeps a program that
// stores an image below 128 MiB.
const DefaultMaxMetadata = 56 << 20

// Store is an open store. It holds no lock and no file open, and may be used
// by several goroutines.
type Store struct {
	dir    string
	policy string
	// verity says whether fs-verity is enabled on new objects.
	verity      bool
	maxMetadata int64
}

type meta struct {
	Version   int    `json:"version"`
	Algorithm string `json:"algorithm"`
	EROFS     int    `json:"erofs"`
	Verity    string `json:"verity"`
}

var layout = []string{
	"objects", "images", "layers", "manifests", "configs", "tags", "refs", "staging", "quarantine",
}

// Open opens the store at dir, which is created if it does not exist.
func Open(dir string, opts Options) (*Store, error) {
	s := &Store{dir: dir, policy: opts.Verity, maxMetadata: cmp.Or(opts.MaxMetadata, DefaultMaxMetadata)}
	if s.policy == "" {
		s.policy = "try"
	}
	if s.policy != "require" && s.policy != "try" && s.policy != "off" {
		return nil, fmt.Errorf("open store: verity policy %q is none of require, try, off", opts.Verity)
	}
	err := s.checkMeta()
	if errors.Is(err, fs.ErrNotExist) {
		err = s.create()
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, s.explain(err))
	}
	return s, nil
}

// Dir returns the directory of the store.
func (s *Store) Dir() string { return s.dir }

// Verity reports whether the kernel verifies the objects of this store.
func (s *Store) Verity() bool { return s.verity }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) objectPath(d verity.Digest) string { return s.path("objects", d.Path()) }

// checkMeta reads meta.json and finds out whether there is fs-verity: a store
// file of our own has it or has not.
func (s *Store) checkMeta() error {
	f, err := os.Open(s.path("meta.json"))
	if err != nil {
		return err
	}
	defer f.Close()
	var m meta
	dec := json.NewDecoder(io.LimitReader(f, 1<<16))
	if err := dec.Decode(&m); err != nil {
		return fmt.Errorf("read meta.json: %w", err)
	}
	if m.Version != Version || m.Algorithm != algorithm {
		return hint.New(fmt.Errorf("store format version %d (%s) is not supported", m.Version, m.Algorithm),
			"use the version of atomic that wrote this store")
	}
	if s.policy == "off" {
		return nil
	}
	switch _, err := verity.Measure(f); {
	case err == nil:
		s.verity = true
		return nil
	case !errors.Is(err, verity.ErrNotEnabled):
		return err
	}
	switch err := verity.Enable(f); {
	case err == nil:
		s.verity = true
	case s.policy == "require":
		return hint.New(err, "a file system with fs-verity is needed (ext4: tune2fs -O verity), "+
			"or set Verity=try in the [Store] section of /etc/atomic/atomic.conf")
	case !errors.Is(err, verity.ErrUnsupported) && !errors.Is(err, unix.EROFS):
		return err
	}
	return nil
}

// create makes the layout. meta.json comes last: without it there is no store,
// and an interrupted create is simply done again.
func (s *Store) create() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for _, d := range layout {
		if err := os.MkdirAll(s.path(d), 0o755); err != nil {
			return err
		}
	}
	lock, err := os.OpenFile(s.path("lock"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	lock.Close()
	b, err := json.Marshal(meta{Version: Version, Algorithm: algorithm, EROFS: 1, Verity: s.policy})
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(s.dir, ".meta-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	if err := writeAndClose(tmp, append(b, '\n')); err != nil {
		return err
	}
	// A link, not a rename: the first of two creators wins.
	if err := os.Link(tmp.Name(), s.path("meta.json")); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.checkMeta()
}

func writeAndClose(f *os.File, b []byte) error {
	_, err := f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// explain gives the errors of a full or unwritable file system a hint.
func (s *Store) explain(err error) error {
	switch {
	case err == nil || hint.Of(err) != "":
		return err
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return hint.New(err, "free some space on the file system of "+s.dir+", for example with: atomic store gc")
	case errors.Is(err, unix.EROFS):
		return hint.New(err, "the file system of "+s.dir+" is mounted read-only; remount it read-write")
	case errors.Is(err, fs.ErrPermission):
		return hint.Root(err)
	case errors.Is(err, ErrCorrupt):
		return hint.New(err, "see what is damaged and repair it with: atomic store fsck --repair")
	}
	return err
}

// openObject opens an object that is in the store already.
func (s *Store) openObject(d verity.Digest) (*os.File, error) {
	f, err := os.OpenFile(s.objectPath(d), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("object %s: %w", d, ErrNotFound)
	}
	return f, err
}

// readLink returns the digest that a name in one of the directories refers to.
func (s *Store) readLink(dir, name string) (verity.Digest, error) {
	target, err := os.Readlink(s.path(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return verity.Digest{}, fmt.Errorf("%s/%s: %w", dir, name, ErrNotFound)
	}
	if err != nil {
		return verity.Digest{}, err
	}
	base := filepath.Base(target)
	d, err := verity.Parse(filepath.Base(filepath.Dir(target)) + base)
	if err != nil {
		return d, fmt.Errorf("%s/%s: %w: %w", dir, name, ErrCorrupt, err)
	}
	return d, nil
}

// readAll reads an object that is small by nature and checks its content.
func readAll(f io.ReadCloser, d verity.Digest, limit int64) ([]byte, error) {
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", d, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read object %s: more than %d bytes", d, limit)
	}
	if verity.Of(b) != d {
		return nil, fmt.Errorf("read object %s: %w", d, ErrCorrupt)
	}
	return b, nil
}

// lock takes the store's lock, shared or exclusive, and waits for it as long
// as ctx lives. Closing the file releases it.
func (s *Store) lock(ctx context.Context, how int) (*os.File, error) {
	f, err := os.OpenFile(s.path("lock"), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, s.explain(fmt.Errorf("lock store: %w", err))
	}
	if err := flock(ctx, f, how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock store: %w", err)
	}
	return f, nil
}
