// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Storage returns a directory that holds all the images as docker-registry
// stores them (storage.filesystem.rootdirectory). It belongs to the cache: a
// registry must not write to it; put a copy or an overlay above it.
func (b *Builder) Storage(ctx context.Context, list []Image) (string, error) {
	return b.cached(ctx, "storage", storageKey(list), func(dst string) error {
		if err := os.Mkdir(dst, 0o755); err != nil {
			return err
		}
		if err := b.fill(ctx, dst, list); err != nil {
			return err
		}
		for _, i := range list {
			if err := b.damage(ctx, dst, i); err != nil {
				return fmt.Errorf("damage %s: %w", i.Name(), err)
			}
		}
		return removeUploads(dst)
	})
}

func storageKey(list []Image) string {
	var keys []string
	for _, i := range list {
		keys = append(keys, fmt.Sprint(i.Repo, i.Tags, i.Key(), i.Damage))
	}
	return hashJSON(keys)
}

// fill pushes the images through a registry that stores into dir.
func (b *Builder) fill(ctx context.Context, dir string, list []Image) (err error) {
	s, err := Serve(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, i := range list {
		if err := b.Push(ctx, s.Registry, i); err != nil {
			return err
		}
	}
	return nil
}

// Server is a running docker-registry on loopback, without TLS.
type Server struct {
	Registry
	cmd    *exec.Cmd
	config string
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:[0-9]+)`)

// Serve starts a docker-registry that stores into dir, on a port of the
// kernel's choice, and returns once it listens. The caller closes it.
func Serve(ctx context.Context, dir string) (*Server, error) {
	config, err := os.CreateTemp("", "registry-*.yml")
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(config, `version: 0.1
log: {level: info, formatter: text, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}, maintenance: {uploadpurging: {enabled: false}}}
http: {addr: "127.0.0.1:0"}
`, dir)
	if err = errors.Join(err, config.Close()); err != nil {
		return nil, err
	}
	s := &Server{config: config.Name(), cmd: exec.CommandContext(ctx, "docker-registry", "serve", config.Name())}
	s.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	var said []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			s.Registry = Registry{Host: m[1], Plain: true}
			go func() {
				for lines.Scan() { // so that the registry never blocks on its log
				}
			}()
			return s, nil
		}
		said = append(said, lines.Text())
	}
	_ = os.Remove(s.config)
	return nil, fmt.Errorf("start registry: %w\n%s", errors.Join(errors.New("it ended"), s.cmd.Wait()), strings.Join(said, "\n"))
}

// Close ends the registry. Everything pushed is on disk by then.
func (s *Server) Close() error {
	defer func() { _ = os.Remove(s.config) }()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop registry: %w", err)
	}
	_ = s.cmd.Wait() // it exits with the signal
	return nil
}

// Damage is a way to break an image where a registry stores it.
type Damage string

// The ways to break the last layer of an image.
const (
	Intact     Damage = ""
	WrongBytes Damage = "digest"    // one byte of the layer differs, same length
	Truncated  Damage = "truncated" // the layer ends early
	Missing    Damage = "missing"   // the layer is not there
)

// damage breaks the image's last layer in a registry's storage directory.
func (b *Builder) damage(ctx context.Context, dir string, i Image) error {
	if i.Damage == Intact {
		return nil
	}
	layer, err := b.lastLayer(ctx, i)
	if err != nil {
		return err
	}
	blob := filepath.Join(dir, "docker/registry/v2/blobs/sha256", layer.Hex[:2], layer.Hex, "data")
	data, err := os.ReadFile(blob)
	if err != nil {
		return err
	}
	switch i.Damage {
	case WrongBytes:
		data[len(data)/2] ^= 0x20
	case Truncated:
		data = data[:len(data)/2]
	case Missing:
		return os.RemoveAll(filepath.Dir(blob))
	default:
		return fmt.Errorf("no damage called %q", i.Damage)
	}
	return os.WriteFile(blob, data, 0o644)
}

func (b *Builder) lastLayer(ctx context.Context, i Image) (v1.Hash, error) {
	built, err := b.Build(ctx, i)
	if err != nil {
		return v1.Hash{}, err
	}
	index, err := built.IndexManifest()
	if err != nil {
		return v1.Hash{}, err
	}
	img, err := built.Image(index.Manifests[0].Digest)
	if err != nil {
		return v1.Hash{}, err
	}
	m, err := img.Manifest()
	if err != nil {
		return v1.Hash{}, err
	}
	return m.Layers[len(m.Layers)-1].Digest, nil
}

// removeUploads removes what the registry keeps about uploads under way.
func removeUploads(dir string) error {
	var found []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "_uploads" {
			found = append(found, p)
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range found {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}
