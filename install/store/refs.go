// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atomic-agent/atomic/install/store/verity"
)

// RefInfo is what a ref remembers about where its image came from.
type RefInfo struct {
	// Image is the fs-verity digest of the file system image.
	Image string `json:"image"`
	// Source is the fully qualified name that was installed.
	Source string `json:"source"`
	// ManifestDigest leads to the layers, which the ref keeps from gc too.
	ManifestDigest string `json:"manifestDigest"`
}

// Ref is a named image: one generation of a container.
type Ref struct {
	Name       string
	Generation int
	RefInfo
}

// tag is the content of a file in tags/.
type tag struct {
	Version  int       `json:"version"`
	Name     string    `json:"name"`
	Manifest string    `json:"manifest"`
	Index    string    `json:"index,omitempty"`
	Pulled   time.Time `json:"pulled"`
	// Verdict is the caller's: how it was decided that the image may be here.
	Verdict json.RawMessage `json:"verdict,omitempty"`
}

// ImageInfo describes an image that was pulled under a name.
type ImageInfo struct {
	// Name is the fully qualified reference, with its tag or digest.
	Name           string
	ManifestDigest string
	IndexDigest    string
	// Created is the time in the image's config; Pulled is when it came here.
	Created, Pulled time.Time
	// Size is that of the compressed layers.
	Size int64
	// Verdict is what TagVerdict was given.
	Verdict json.RawMessage
}

// SetRef makes generation of name refer to an image (as PutImage returned it),
// which gc then keeps.
func (t *Txn) SetRef(name string, generation int, info RefInfo) error {
	if err := checkRefName(name); err != nil {
		return err
	}
	if _, err := verity.Parse(info.Image); err != nil {
		return err
	}
	if _, err := t.lookup("images", info.Image); err != nil {
		return fmt.Errorf("set ref %s.%d: %w", name, generation, err)
	}
	path := "refs/" + name + "/" + strconv.Itoa(generation)
	if err := t.putFile(path+".json", info); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refs[path] = info.Image
	return nil
}

func checkRefName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > unix.NAME_MAX || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot name a ref", name)
	}
	return nil
}

// Tag remembers that the image name stands for a manifest, so that it can be
// listed and installed again without a registry.
func (t *Txn) Tag(name, manifestDigest, indexDigest string) error {
	return t.TagVerdict(name, manifestDigest, indexDigest, nil)
}

// TagVerdict is Tag with a JSON value of the caller's that is kept with the
// name.
func (t *Txn) TagVerdict(name, manifestDigest, indexDigest string, verdict json.RawMessage) error {
	if _, err := t.lookup("manifests", manifestDigest); err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	return t.putFile("tags/"+tagFile(name), tag{
		Version: 1, Name: name, Manifest: manifestDigest, Index: indexDigest,
		Pulled: time.Now().UTC().Truncate(time.Second), Verdict: verdict,
	})
}

// tagFile is a readable file name for an image name; an overlong one ends in
// a hash.
func tagFile(name string) string {
	f := url.QueryEscape(name)
	if len(f) > 200 {
		f = f[:180] + "+" + sha256Digest([]byte(name))[7:23]
	}
	return f + ".json"
}

// Untag forgets an image name. gc then removes what nothing else refers to.
func (s *Store) Untag(ctx context.Context, name string) error {
	lock, err := s.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer lock.Close()
	err = os.Remove(s.path("tags", tagFile(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("image %s: %w", name, ErrNotFound)
	}
	if err == nil {
		err = syncDir(s.path("tags"))
	}
	return s.explain(err)
}

// RemoveRef removes one generation of name. It is not an error if it is gone.
func (s *Store) RemoveRef(ctx context.Context, name string, generation int) error {
	if err := checkRefName(name); err != nil {
		return err
	}
	lock, err := s.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer lock.Close()
	gen := strconv.Itoa(generation)
	for _, f := range []string{gen, gen + ".json"} {
		if err := os.Remove(s.path("refs", name, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.explain(fmt.Errorf("remove ref: %w", err))
		}
	}
	if err := os.Remove(s.path("refs", name)); err == nil {
		return s.explain(syncDir(s.path("refs")))
	}
	if err := syncDir(s.path("refs", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.explain(err)
	}
	return nil
}

// Refs lists every ref, by name and generation.
func (s *Store) Refs() ([]Ref, error) {
	names, err := os.ReadDir(s.path("refs"))
	if err != nil {
		return nil, fmt.Errorf("list refs: %w", err)
	}
	var refs []Ref
	for _, name := range names {
		gens, err := os.ReadDir(s.path("refs", name.Name()))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			return nil, fmt.Errorf("list refs: %w", err)
		}
		for _, g := range gens {
			n, err := strconv.Atoi(g.Name())
			if err != nil {
				continue
			}
			r, err := s.ref(name.Name(), n)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			refs = append(refs, r)
		}
	}
	sort.Slice(refs, func(a, b int) bool {
		if refs[a].Name != refs[b].Name {
			return refs[a].Name < refs[b].Name
		}
		return refs[a].Generation < refs[b].Generation
	})
	return refs, nil
}

func (s *Store) ref(name string, generation int) (Ref, error) {
	r := Ref{Name: name, Generation: generation}
	path := s.path("refs", name, strconv.Itoa(generation))
	target, err := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("ref %s.%d: %w", name, generation, ErrNotFound)
	}
	if err != nil {
		return r, fmt.Errorf("read ref: %w", err)
	}
	b, err := os.ReadFile(path + ".json")
	if err == nil {
		err = json.Unmarshal(b, &r.RefInfo)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("read ref %s.%d: %w", name, generation, err)
	}
	// The symlink is the ref; the file beside it only explains.
	r.Image = target[strings.LastIndexByte(target, '/')+1:]
	if _, err := verity.Parse(r.Image); err != nil {
		return r, fmt.Errorf("read ref %s.%d: %w", name, generation, err)
	}
	return r, nil
}

// Lookup returns what was pulled under a full name, as far as its tag knows:
// without Created and Size.
func (s *Store) Lookup(name string) (ImageInfo, error) {
	t, err := s.readTag(tagFile(name))
	if err != nil {
		return ImageInfo{}, fmt.Errorf("image %s: %w", name, err)
	}
	return ImageInfo{Name: t.Name, ManifestDigest: t.Manifest, IndexDigest: t.Index, Pulled: t.Pulled, Verdict: t.Verdict}, nil
}

// Resolve returns the manifest digest that the image name was pulled as.
func (s *Store) Resolve(name string) (manifestDigest string, err error) {
	t, err := s.readTag(tagFile(name))
	if err != nil {
		return "", fmt.Errorf("image %s: %w", name, err)
	}
	return t.Manifest, nil
}

func (s *Store) readTag(file string) (*tag, error) {
	b, err := os.ReadFile(s.path("tags", file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	var t tag
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("read tags/%s: %w", file, err)
	}
	if t.Version != 1 {
		return nil, fmt.Errorf("read tags/%s: unknown version %d", file, t.Version)
	}
	if err := checkDigest(t.Manifest); err != nil {
		return nil, fmt.Errorf("read tags/%s: %w", file, err)
	}
	return &t, nil
}

// Images lists the images that were pulled, by name.
func (s *Store) Images() ([]ImageInfo, error) {
	files, err := os.ReadDir(s.path("tags"))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var list []ImageInfo
	for _, f := range files {
		t, err := s.readTag(f.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		info := ImageInfo{Name: t.Name, ManifestDigest: t.Manifest, IndexDigest: t.Index, Pulled: t.Pulled, Verdict: t.Verdict}
		if err := s.describe(&info); err != nil {
			return nil, fmt.Errorf("list images: %s: %w", t.Name, s.explain(err))
		}
		list = append(list, info)
	}
	sort.Slice(list, func(a, b int) bool { return list[a].Name < list[b].Name })
	return list, nil
}

func (s *Store) describe(info *ImageInfo) error {
	view := &Txn{s: s}
	b, err := view.readBlob("manifests", info.ManifestDigest)
	if err != nil {
		return err
	}
	m, err := parseManifest(b)
	if err != nil {
		return err
	}
	for _, l := range m.Layers {
		info.Size += l.Size
	}
	if b, err = view.readBlob("configs", m.Config.Digest); err != nil {
		return err
	}
	var config struct {
		Created time.Time `json:"created"`
	}
	if json.Unmarshal(b, &config) == nil {
		info.Created = config.Created
	}
	return nil
}
