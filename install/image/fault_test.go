// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/types"

	"github.com/atomic-agent/atomic/install/image"
	"github.com/atomic-agent/atomic/install/trust"
	"github.com/atomic-agent/atomic/internal/hint"
	"github.com/atomic-agent/atomic/internal/paths"
)

// world is a registry that misbehaves on demand and a host that pulls from it.
type world struct {
	t      *testing.T
	server *httptest.Server
	fault  func(w http.ResponseWriter, r *http.Request) (handled bool)
	root   string
	opts   image.Options
	log    bytes.Buffer
}

func newWorld(t *testing.T, tls bool) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir()}
	w.opts.Host = paths.Host{Root: w.root}
	w.opts.Insecure = !tls
	reg := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.fault != nil && w.fault(rw, r) {
			return
		}
		reg.ServeHTTP(rw, r)
	})
	if tls {
		w.server = httptest.NewUnstartedServer(handler)
		w.server.Config.ErrorLog = log.New(io.Discard, "", 0)
		w.server.StartTLS()
	} else {
		w.server = httptest.NewServer(handler)
	}
	t.Cleanup(w.server.Close)
	w.policy(`{"default":[{"type":"insecureAcceptAnything"}]}`)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("CONTAINERS_POLICY_JSON", "")
	return w
}

func (w *world) policy(text string) {
	w.t.Helper()
	w.write("etc/containers/policy.json", text)
}

func (w *world) write(rel, text string) {
	w.t.Helper()
	file := filepath.Join(w.root, rel)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) addr() string { return w.server.Listener.Addr().String() }

func (w *world) push(repo string, img v1.Image) {
	w.t.Helper()
	ref, err := name.ParseReference(w.addr()+"/"+repo, name.Insecure)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithTransport(w.server.Client().Transport)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pushIndex(repo string, idx v1.ImageIndex) {
	w.t.Helper()
	ref, err := name.ParseReference(w.addr()+"/"+repo, name.Insecure)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, idx); err != nil {
		w.t.Fatal(err)
	}
}

// pull pulls into a directory and returns it.
func (w *world) pull(text string) (*image.Image, string, error) {
	w.t.Helper()
	n, err := image.ParseName(text)
	if err != nil {
		return nil, "", err
	}
	sys, err := image.System(w.opts)
	if err != nil {
		return nil, "", err
	}
	pol, err := trust.Load(w.opts.Host, false)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := image.Resolve(sys, n)
	if err != nil {
		return nil, "", err
	}
	dir := w.t.TempDir()
	p := &image.Puller{System: sys, Policy: pol, Progress: image.Lines(&w.log)}
	img, err := p.Pull(w.t.Context(), c, func(*image.Image) (types.ImageReference, error) { return directory.NewReference(dir) })
	return img, dir, err
}

func testImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	img, err := random.Image(4096, 2)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

func otherArch() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

func TestPull(t *testing.T) {
	w := newWorld(t, false)
	img := testImage(t, runtime.GOARCH)
	w.push("library/etcd:3.5", img)
	got, dir, err := w.pull(w.addr() + "/library/etcd:3.5")
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest.String() != want.String() || got.Name != w.addr()+"/library/etcd:3.5" || got.Config.Architecture != runtime.GOARCH {
		t.Errorf("pulled %+v", got)
	}
	if got.Signature.Verdict != "unsigned" || len(got.Signature.PolicySHA256) != 64 {
		t.Errorf("verdict %+v", got.Signature)
	}
	if entries, _ := os.ReadDir(dir); len(entries) < 4 {
		t.Errorf("destination has %d entries", len(entries))
	}
	if n := strings.Count(w.log.String(), "Fetched "); n != 3 {
		t.Errorf("%d lines of progress, want 3:\n%s", n, w.log.String())
	}
}

func TestPullFromIndex(t *testing.T) {
	w := newWorld(t, false)
	mine := testImage(t, runtime.GOARCH)
	idx := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: testImage(t, otherArch()), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: otherArch()}}},
		mutate.IndexAddendum{Add: mine, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	w.pushIndex("etcd:1", idx)
	got, _, err := w.pull(w.addr() + "/etcd:1")
	if err != nil {
		t.Fatal(err)
	}
	want, _ := mine.Digest()
	top, _ := idx.Digest()
	if got.Digest.String() != want.String() || got.IndexDigest.String() != top.String() {
		t.Errorf("digest %s of index %s, want %s of %s", got.Digest, got.IndexDigest, want, top)
	}
}

func TestShortName(t *testing.T) {
	w := newWorld(t, false)
	w.write("etc/containers/registries.conf", "unqualified-search-registries=[\""+w.addr()+"\"]\nshort-name-mode=\"enforcing\"\n")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(w.root, "etc/containers/registries.conf"))
	w.push("etcd:latest", testImage(t, runtime.GOARCH))
	got, _, err := w.pull("etcd")
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != w.addr()+"/etcd:latest" {
		t.Errorf("resolved to %s", got.Name)
	}
}

// TestFaults is the list of what goes wrong in practice: each has one reason,
// a message of one line and a hint.
func TestFaults(t *testing.T) {
	tests := []struct {
		name  string
		tls   bool
		setup func(w *world) (image string)
		want  error
	}{
		{"wrong name", false, func(w *world) string { return "/no/such:image" }, image.ErrNotFound},
		{"wrong tag", false, func(w *world) string {
			w.push("etcd:1", testImage(w.t, runtime.GOARCH))
			return "/etcd:2"
		}, image.ErrNotFound},
		{"connection refused", false, func(w *world) string { w.server.Close(); return "/etcd:1" }, image.ErrUnreachable},
		{"connection refused over tls", true, func(w *world) string { w.server.Close(); return "/etcd:1" }, image.ErrUnreachable},
		{"unknown authority", true, func(w *world) string { return "/etcd:1" }, image.ErrTLS},
		{"http behind https", false, func(w *world) string { w.opts.Insecure = false; return "/etcd:1" }, image.ErrTLS},
		{"no credentials", false, basicAuth, image.ErrUnauthorized},
		{"wrong credentials", false, func(w *world) string {
			w.opts.Credentials = "atomic:guess"
			return basicAuth(w)
		}, image.ErrUnauthorized},
		{"other architecture", false, func(w *world) string {
			w.push("etcd:1", testImage(w.t, otherArch()))
			return "/etcd:1"
		}, image.ErrArchitecture},
		{"index without this architecture", false, func(w *world) string {
			w.pushIndex("etcd:1", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
				Add: testImage(w.t, otherArch()), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: otherArch()}},
			}))
			return "/etcd:1"
		}, image.ErrArchitecture},
		{"layer does not match its digest", false, func(w *world) string {
			img := testImage(w.t, runtime.GOARCH)
			w.push("etcd:1", img)
			layers, _ := img.Layers()
			d, _ := layers[1].Digest()
			w.swap("/blobs/" + d.String())
			return "/etcd:1"
		}, image.ErrCorrupt},
		{"configuration does not match its digest", false, func(w *world) string {
			img := testImage(w.t, runtime.GOARCH)
			w.push("etcd:1", img)
			d, _ := img.ConfigName()
			w.swap("/blobs/" + d.String())
			return "/etcd:1"
		}, image.ErrCorrupt},
		{"manifest does not match its digest", false, func(w *world) string {
			img := testImage(w.t, runtime.GOARCH)
			w.push("etcd:1", img)
			d, _ := img.Digest()
			w.swap("/manifests/")
			return "/etcd@" + d.String()
		}, image.ErrCorrupt},
		{"rate limit", false, func(w *world) string {
			w.fault = func(rw http.ResponseWriter, r *http.Request) bool {
				rw.Header().Set("Retry-After", "0")
				rw.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			return "/etcd:1"
		}, image.ErrRateLimit},
		{"rejected by policy", false, func(w *world) string {
			w.push("etcd:1", testImage(w.t, runtime.GOARCH))
			w.policy(`{"default":[{"type":"reject"}]}`)
			return "/etcd:1"
		}, trust.ErrRejected},
		{"no policy", false, func(w *world) string {
			w.push("etcd:1", testImage(w.t, runtime.GOARCH))
			if err := os.Remove(filepath.Join(w.root, "etc/containers/policy.json")); err != nil {
				w.t.Fatal(err)
			}
			return "/etcd:1"
		}, trust.ErrRejected},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.tls)
			_, dir, err := w.pull(w.addr() + tt.setup(w))
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("not one clear line: %s", err)
			}
			if hint.Of(err) == "" {
				t.Errorf("no hint: %v", err)
			}
			t.Logf("%v\nhint: %s", err, hint.Of(err))
			if !errors.Is(tt.want, image.ErrCorrupt) { // the store discards a broken transaction itself
				if entries, _ := os.ReadDir(dir); len(entries) != 0 {
					t.Errorf("destination touched: %v", entries)
				}
			}
		})
	}
}

// basicAuth makes the registry ask for a password.
func basicAuth(w *world) string {
	w.push("etcd:1", testImage(w.t, runtime.GOARCH))
	w.fault = func(rw http.ResponseWriter, r *http.Request) bool {
		if user, pass, _ := r.BasicAuth(); user == "atomic" && pass == "atomic" {
			return false
		}
		rw.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		rw.WriteHeader(http.StatusUnauthorized)
		_, _ = rw.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
		return true
	}
	return "/etcd:1"
}

// swap serves other content of the same length for paths with a substring.
func (w *world) swap(part string) {
	server := w.server
	inner := server.Config.Handler
	w.fault = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, part) {
			return false
		}
		w.fault, part = nil, "\x00" // let the recorder see the real answer
		rec := httptest.NewRecorder()
		inner.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		if json.Valid(body) {
			body = bytes.Replace(body, []byte(`"`), []byte(` "`), 1) // still JSON
		} else {
			body[len(body)/2] ^= 1
		}
		rw.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(body)
		return true
	}
}

func TestDiskFull(t *testing.T) {
	w := newWorld(t, false)
	w.push("etcd:1", testImage(t, runtime.GOARCH))
	n, err := image.ParseName(w.addr() + "/etcd:1")
	if err != nil {
		t.Fatal(err)
	}
	sys, err := image.System(w.opts)
	if err != nil {
		t.Fatal(err)
	}
	pol, err := trust.Load(w.opts.Host, false)
	if err != nil {
		t.Fatal(err)
	}
	c, err := image.Resolve(sys, n)
	if err != nil {
		t.Fatal(err)
	}
	p := &image.Puller{System: sys, Policy: pol}
	_, err = p.Pull(t.Context(), c, func(*image.Image) (types.ImageReference, error) {
		dir, err := directory.NewReference(t.TempDir())
		return fullRef{dir}, err
	})
	if !errors.Is(err, image.ErrNoSpace) {
		t.Errorf("error %v, want ErrNoSpace", err)
	}
}

// fullRef is a destination on a full disk.
type fullRef struct{ types.ImageReference }

func (f fullRef) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	d, err := f.ImageReference.NewImageDestination(ctx, sys)
	return fullDest{d}, err
}

type fullDest struct{ types.ImageDestination }

func (fullDest) PutBlob(context.Context, io.Reader, types.BlobInfo, types.BlobInfoCache, bool) (types.BlobInfo, error) {
	return types.BlobInfo{}, &os.PathError{Op: "write", Path: "objects", Err: syscall.ENOSPC}
}

func TestCanceled(t *testing.T) {
	w := newWorld(t, false)
	w.push("etcd:1", testImage(t, runtime.GOARCH))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sys, _ := image.System(w.opts)
	pol, _ := trust.Load(w.opts.Host, false)
	c, err := image.Resolve(sys, image.Name{Text: w.addr() + "/etcd:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&image.Puller{System: sys, Policy: pol}).Inspect(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}
