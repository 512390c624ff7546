// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
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
// Packages that were made before /usr was merged have files elsewhere.
func clean(name string) string {
	name = strings.Trim(strings.TrimPrefix(name, "."), "/")
	if top, _, below := strings.Cut(name, "/"); below && slices.Contains([]string{"bin", "sbin", "lib", "lib64"}, top) {
		return "usr/" + name
	}
	return name
}

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
		cmd := goCommand(ctx, src, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", dst, ".")
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOARCH="+s.Arch)
		return run(cmd)
	})
	if err != nil {
		return err
	}
	return addProgram(t, "usr/bin/hello", bin)
}

// GoModule is the program in the root package of a Go module, statically
// linked.
type GoModule struct {
	// Module is the module with its version, "example.com/module@v1.2.3".
	Module string
	// Path is where the program goes.
	Path string
	// Edits change the source before it is built.
	Edits []Edit
}

// Edit replaces Old, which must be in the file once, by New.
type Edit struct{ File, Old, New string }

func (s GoModule) key() string { return "go:" + hashJSON(s) }

func (s GoModule) add(ctx context.Context, b *Builder, t tree) error {
	bin, err := b.cached(ctx, path.Base(s.Path), hashJSON([]any{s.Module, s.Edits}), func(dst string) error {
		src, err := os.MkdirTemp(b.Dir, "module")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(src) }()
		if err := s.source(ctx, src); err != nil {
			return err
		}
		// Programs that want cgo get it, and are static all the same.
		cmd := goCommand(ctx, src, "build", "-trimpath", "-buildvcs=false", "-tags=netgo,osusergo",
			`-ldflags=-s -w -buildid= -linkmode external -extldflags "-static -Wl,--build-id=none"`, "-o", dst, ".")
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
		return run(cmd)
	})
	if err != nil {
		return err
	}
	return addProgram(t, s.Path, bin)
}

// source puts the module's edited source into dir.
func (s GoModule) source(ctx context.Context, dir string) error {
	out, err := goCommand(ctx, dir, "mod", "download", "-json", s.Module).Output()
	var got struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &got); jsonErr != nil || got.Error != "" {
		return fmt.Errorf("download %s: %w", s.Module, errors.Join(err, jsonErr, errors.New(got.Error)))
	}
	if err := os.CopyFS(dir, os.DirFS(got.Dir)); err != nil {
		return err
	}
	for _, e := range s.Edits {
		name := filepath.Join(dir, e.File)
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := strings.Count(string(text), e.Old); n != 1 {
			return fmt.Errorf("edit %s of %s: %q is there %d times", e.File, s.Module, e.Old, n)
		}
		// The module cache is read-only, and so is the copy.
		if err := errors.Join(os.Remove(name), os.WriteFile(name, []byte(strings.Replace(string(text), e.Old, e.New, 1)), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// goCommand is the go command in dir, free of the settings of this module.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOFLAGS=", "GOWORK=off")
	return cmd
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
