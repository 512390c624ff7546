// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Source is where files of a layer come from. The key describes them without
// fetching them; add fetches them.
type Source interface {
	key() string
	add(ctx context.Context, b *Builder, t tree) error
}

// Files are files spelled out in the description.
type Files tree

func (s Files) key() string { return "files:" + tree(s).key() }

func (s Files) add(_ context.Context, _ *Builder, t tree) error {
	for name, f := range s {
		t.add(name, f)
	}
	return nil
}

//go:embed files
var embedded embed.FS

// Embedded is a tree below files/ in this package. Scripts, files that begin
// with "#!", are executable.
type Embedded string

func (s Embedded) tree() (tree, error) {
	t := tree{}
	root := "files/" + string(s)
	err := fs.WalkDir(embedded, root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := embedded.ReadFile(p)
		if err != nil {
			return err
		}
		f := file{typ: tar.TypeReg, mode: 0o644, data: data}
		if bytes.HasPrefix(data, []byte("#!")) {
			f.mode = 0o755
		}
		t.add(strings.TrimPrefix(p, root+"/"), f)
		return nil
	})
	return t, err
}

func (s Embedded) key() string {
	t, err := s.tree()
	if err != nil {
		panic(fmt.Sprintf("images: no embedded tree %q: %v", string(s), err))
	}
	return "files:" + t.key()
}

func (s Embedded) add(ctx context.Context, b *Builder, t tree) error {
	from, err := s.tree()
	if err != nil {
		return err
	}
	return Files(from).add(ctx, b, t)
}

// Debian is files from Debian packages, unpacked and not configured.
type Debian struct {
	// Suite is the release the packages come from.
	Suite string
	// Packages are unpacked with all they depend on.
	Packages []string
	// Take are patterns (path.Match, without a leading slash) of the files to
	// take; one that ends in "/" takes everything below a directory. Each
	// must match. Without any, everything is taken that Leave does not match.
	Take, Leave []string
}

func (s Debian) key() string { return "debian:" + hashJSON(s) }

func (s Debian) add(ctx context.Context, b *Builder, t tree) error {
	archive, err := b.debian(ctx, s.Suite, s.Packages)
	if err != nil {
		return err
	}
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	matched := make([]bool, len(s.Take))
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", archive, err)
		}
		name := clean(h.Name)
		if !s.wants(name, matched) {
			continue
		}
		f := file{typ: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, link: h.Linkname}
		if f.data, err = io.ReadAll(r); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if h.Typeflag == tar.TypeLink {
			if err := t.hardlink(name, clean(h.Linkname)); err != nil {
				return err
			}
			continue
		}
		t.add(name, f)
	}
	for i, ok := range matched {
		if !ok {
			return fmt.Errorf("take %s from %s: no such file in %s", s.Take[i], s.Suite, strings.Join(s.Packages, ", "))
		}
	}
	return nil
}

// wants reports whether to take a file, and marks the pattern that says so.
func (s Debian) wants(name string, matched []bool) bool {
	if len(s.Take) == 0 {
		return name != "" && !slices.ContainsFunc(s.Leave, func(p string) bool { return takes(p, name) })
	}
	i := slices.IndexFunc(s.Take, func(p string) bool { return takes(p, name) })
	if i >= 0 {
		matched[i] = true
	}
	return i >= 0
}

// clean turns a name in a Debian archive, "./usr/bin/", into a key of a tree.
func clean(name string) string { return strings.Trim(strings.TrimPrefix(name, "."), "/") }

func takes(pattern, name string) bool {
	if below, ok := strings.CutSuffix(pattern, "/"); ok {
		return name == below || strings.HasPrefix(name, pattern)
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

//go:embed hello/*.go
var helloSource embed.FS

// Hello is the hello server, compiled for an architecture, at /usr/bin/hello.
type Hello struct{ Arch string }

func (s Hello) key() string {
	h := sha256.New()
	for _, name := range s.sources() {
		data, err := helloSource.ReadFile("hello/" + name)
		if err != nil {
			panic(fmt.Sprintf("images: %v", err))
		}
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
	}
	return "hello:" + s.Arch + ":" + hex.EncodeToString(h.Sum(nil))
}

func (s Hello) sources() []string {
	entries, err := helloSource.ReadDir("hello")
	if err != nil {
		panic(fmt.Sprintf("images: %v", err))
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "_test.go") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (s Hello) add(ctx context.Context, b *Builder, t tree) error {
	bin, err := b.cached(ctx, "hello", hashJSON(s.key()), func(dst string) error {
		src, err := os.MkdirTemp("", "hello")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(src) }()
		if err := os.WriteFile(filepath.Join(src, "go.mod"), []byte("module hello\n\ngo 1.26\n"), 0o600); err != nil {
			return err
		}
		for _, name := range s.sources() {
			data, err := helloSource.ReadFile("hello/" + name)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(src, name), data, 0o600); err != nil {
				return err
			}
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", dst, ".")
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=", "GOWORK=off", "GOARCH="+s.Arch)
		return run(cmd)
	})
	if err != nil {
		return err
	}
	return addProgram(t, "usr/bin/hello", bin)
}

// GoInstall is a program of a Go module, statically linked.
type GoInstall struct {
	// Package is the package to install with its module's version,
	// "example.com/module/cmd/x@v1.2.3".
	Package string
	// Path is where the program goes.
	Path string
}

func (s GoInstall) key() string { return "go:" + hashJSON(s) }

func (s GoInstall) add(ctx context.Context, b *Builder, t tree) error {
	bin, err := b.cached(ctx, path.Base(s.Path), hashJSON(s.Package), func(dst string) error {
		out, err := os.MkdirTemp(filepath.Dir(dst), "install")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(out) }()
		// Programs that want cgo get it, and are static all the same.
		cmd := exec.CommandContext(ctx, "go", "install", "-trimpath", "-buildvcs=false", "-tags=netgo,osusergo",
			`-ldflags=-s -w -buildid= -linkmode external -extldflags "-static -Wl,--build-id=none"`, s.Package)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GOOS=linux", "GOFLAGS=", "GOWORK=off", "GOBIN="+out)
		if err := run(cmd); err != nil {
			return err
		}
		built, err := filepath.Glob(out + "/*")
		if err != nil || len(built) != 1 {
			return fmt.Errorf("go install %s left %q", s.Package, built)
		}
		return os.Rename(built[0], dst)
	})
	if err != nil {
		return err
	}
	return addProgram(t, s.Path, bin)
}

func addProgram(t tree, name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	t.add(name, program(data))
	return nil
}

// run runs a command and puts what it said into the error.
func run(cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
