// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/internal/paths"
)

// BenchmarkContainers lists 500 containers, without asking systemd about them.
func BenchmarkContainers(b *testing.B) {
	host := paths.Host{Root: b.TempDir()}
	rec, err := record.ReadFile("record/testdata/info.json")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 500 {
		if err := fakeContainer(host, rec, fmt.Sprintf("container-%d", i)); err != nil {
			b.Fatal(err)
		}
	}
	a, err := New(host, slog.New(slog.DiscardHandler), func(string, ...any) {})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		list, err := a.Containers(b.Context())
		if err != nil || len(list) != 500 || list[0].Command != "/usr/bin/etcd-env.sh" || list[0].State != "inactive" {
			b.Fatalf("%d containers, %v, %+v", len(list), err, list[0])
		}
	}
}

// fakeContainer makes what the list reads of a container.
func fakeContainer(host paths.Host, example *record.Record, name string) error {
	rec := *example
	rec.Atomic.Name, rec.Atomic.Start.Unit = name, name+".service"
	info, err := rec.Marshal()
	if err != nil {
		return err
	}
	golden, err := txtar.ParseFile(filepath.Join("..", "unitgen", "testdata", "render", "etcd.txtar"))
	if err != nil {
		return err
	}
	var config []byte
	for _, f := range golden.Files {
		if f.Name == "want/config.json" {
			config = f.Data
		}
	}
	dir := host.Deployment(name, rec.Atomic.Generation)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for file, content := range map[string][]byte{"info": info, "config.json": config} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			return err
		}
	}
	return os.Symlink(paths.Host{}.Deployment(name, rec.Atomic.Generation), host.Current(name))
}
