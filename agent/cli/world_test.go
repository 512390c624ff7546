// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/atomic-agent/atomic/agent/cli"
)

// TestMain makes the test binary the program itself when it is asked to be, so
// that tests can run and kill real processes without a build.
func TestMain(m *testing.M) {
	if os.Getenv("ATOMIC_TEST_MAIN") != "" {
		os.Exit(cli.Run(contextForMain(), os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// world is a host below a directory and a registry.
type world struct {
	t    testing.TB
	root string
	addr string
	// down takes the registry away.
	down func()
}

func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files are installed with their owners")
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	w := &world{t: t, root: t.TempDir(), addr: server.Listener.Addr().String(), down: server.Close}
	w.write("etc/containers/policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	w.write("etc/containers/registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", w.addr))
	w.write("etc/systemd/system/keep", "") // systemctl makes the directory and leaves it
	w.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
	return w
}

func (w *world) path(rel string) string { return filepath.Join(w.root, rel) }

func (w *world) write(rel, content string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(rel)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(rel), []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(rel string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.path(rel))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// image is the content of a test image by path; a value that starts with "->"
// is a symlink.
type testImage map[string]string

// etcd is an image in the shape of the published one.
func etcd(version string) testImage {
	return testImage{
		"usr/bin/etcd": "#!/bin/sh\n# " + version + "\n",
		"etc/hosts":    "127.0.0.1 localhost\n",
		"etc/passwd":   "root:x:0:0::/root:/bin/sh\n",
		"exports/service.template": "[Unit]\nDescription=etcd " + version + "\n\n[Service]\nExecStart=$EXEC_START\n" +
			"ExecStop=$EXEC_STOP\nRestart=on-failure\nWorkingDirectory=$DESTDIR\nRuntimeDirectory=${NAME}\n\n[Install]\nWantedBy=multi-user.target\n",
		"exports/config.json.template": `{"ociVersion":"1.0.0","process":{"terminal":false,"user":{},"args":["/usr/bin/etcd"],` +
			`"env":["PATH=/usr/bin","ETCD_NAME=$ETCD_NAME"],"cwd":"/","capabilities":["CAP_NET_BIND_SERVICE"]},` +
			`"root":{"path":"rootfs","readonly":true},"mounts":[` +
			`{"destination":"/proc","type":"proc","source":"proc"},` +
			`{"destination":"/var/lib/etcd","type":"bind","source":"$STATE_DIRECTORY/etcd/$NAME.etcd","options":["rbind","rw"]},` +
			`{"destination":"/etc/etcd","type":"bind","source":"$CONF_DIRECTORY/$NAME","options":["rbind","ro"]}],` +
			`"linux":{"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"mount"}]}}`,
		"exports/tmpfiles.template":              "d $STATE_DIRECTORY/etcd/$NAME.etcd 0700 root root - -\nd $CONF_DIRECTORY/$NAME 0755 root root - -\n",
		"exports/manifest.json":                  `{"version":"1.0","defaultValues":{"ETCD_NAME":"default"},"renameFiles":{"/usr/local/bin/etcdctl":"/usr/local/bin/$NAME-ctl"},"installedFilesTemplate":["/etc/sysconfig/etcd"]}`,
		"exports/hostfs/usr/local/bin/etcdctl":   "#!/bin/sh\n# etcdctl " + version + "\n",
		"exports/hostfs/etc/sysconfig/etcd":      "NAME=$NAME\n",
		"exports/hostfs/usr/local/share/etcd/ln": "->../nowhere",
	}
}

func (i testImage) layer() v1.Layer {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for path, content := range i {
		h := &tar.Header{Name: path, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if strings.HasPrefix(content, "#!") {
			h.Mode = 0o755
		}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeSymlink, target, 0, ""
		}
		must(tw.WriteHeader(h))
		_, err := tw.Write([]byte(content))
		must(err)
	}
	must(tw.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	must(err)
	return l
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// push pushes an image and returns its name for the command line.
func (w *world) push(repo string, img testImage) string {
	w.t.Helper()
	out, err := mutate.AppendLayers(empty.Image, img.layer())
	must(err)
	cfg, err := out.ConfigFile()
	must(err)
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	cfg.Config.Labels = map[string]string{"Name": repo, "atomic.type": "system"}
	out, err = mutate.ConfigFile(out, cfg)
	must(err)
	ref, err := name.ParseReference(w.addr+"/"+repo, name.Insecure)
	must(err)
	must(remote.Write(ref, out))
	return "http:" + w.addr + "/" + repo
}

// run runs a command line in this process.
func (w *world) run(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	var out, errs bytes.Buffer
	w.t.Setenv("ATOMIC_ROOT", w.root)
	code = cli.Run(w.t.Context(), args, cli.IO{In: strings.NewReader(""), Out: &out, Err: &errs})
	return out.String(), errs.String(), code
}

func (w *world) mustRun(args ...string) string {
	w.t.Helper()
	out, errs, code := w.run(args...)
	if code != 0 {
		w.t.Fatalf("atomic %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// snapshot describes every file of the host outside of atomic's own directory.
func (w *world) snapshot() map[string]string {
	w.t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(w.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, w.root)
		if rel == "/var/lib/containers/atomic" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		desc := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			desc += " " + hex.EncodeToString(sum[:8])
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			desc += " -> " + target
		}
		m[rel] = desc
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	delete(m, "/var/lib/containers")
	delete(m, "/var/lib")
	delete(m, "/var")
	return m
}

// currentOf is the directory name of a container's current deployment.
func (w *world) currentOf(name string) string {
	w.t.Helper()
	target, err := os.Readlink(w.path("var/lib/containers/atomic/" + name))
	must(err)
	return filepath.Base(target)
}

func (w *world) deployments() string {
	w.t.Helper()
	list, err := filepath.Glob(w.path("var/lib/containers/atomic/*"))
	must(err)
	names := []string{}
	for _, p := range list {
		if base := filepath.Base(p); base[0] != '.' {
			names = append(names, base)
		}
	}
	return fmt.Sprint(names)
}
