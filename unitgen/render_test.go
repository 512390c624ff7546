// SPDX-License-Identifier: Apache-2.0

package unitgen_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/atomic-agent/atomic/unitgen"
)

var update = flag.Bool("update", false, "rewrite the want/ files of testdata/render")

// testCase is the file case.json of an archive in testdata/render. The other
// files are exports/PATH, hostfs/PATH and rootfs/PATH of the image, and
// want/FILE, what is rendered.
type testCase struct {
	Name       string
	Generation int
	Image      string
	Config     ispec.ImageConfig
	Set        map[string]string
	Previous   map[string]string
	Options    unitgen.Options
	Grants     []string
	// Rootfs adds to the image: "dir", "file" or "-> TARGET".
	Rootfs map[string]string
	// Hostfs changes the type or mode of hostfs files: "04755 33:33", "dir",
	// "-> TARGET", "fifo".
	Hostfs map[string]string
	// Host lists what exists on the host: "dir" or "file".
	Host         map[string]string
	Capabilities []string
	SELinux      bool
	Launcher     string
	Machined     bool
	Systemd      int
	// IDs are those of a user namespace, NoUserNS is why there is none.
	IDs      *unitgen.IDRange
	NoUserNS string
}

func loadCase(tb testing.TB, file string) (*txtar.Archive, unitgen.Input) {
	tb.Helper()
	ar, err := txtar.ParseFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var c testCase
	in := unitgen.Input{ImageID: strings.Repeat("0123456789abcdef", 4)}
	rootfs := map[string]unitgen.Entry{}
	content := map[string][]byte{}
	var hostfs []unitgen.HostFile
	for _, f := range ar.Files {
		kind, name, _ := strings.Cut(f.Name, "/")
		switch kind {
		case "case.json":
			dec := json.NewDecoder(strings.NewReader(string(f.Data)))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&c); err != nil {
				tb.Fatalf("%s: case.json: %v", file, err)
			}
		case "exports":
			if slot := exportSlot(&in.Exports, name); slot != nil {
				*slot = f.Data
			}
		case "hostfs":
			hostfs = append(hostfs, unitgen.HostFile{Path: "/" + name, Mode: 0o644, Content: f.Data})
		case "rootfs":
			rootfs["/"+name] = unitgen.Entry{Mode: 0o644}
			content["/"+name] = f.Data
		case "want":
		default:
			tb.Fatalf("%s: unknown file %s", file, f.Name)
		}
	}
	c.apply(tb, &in, rootfs, content, hostfs)
	return ar, in
}

func exportSlot(e *unitgen.Exports, name string) *[]byte {
	switch name {
	case "config.json":
		return &e.ConfigJSON
	case "config.json.template":
		return &e.ConfigTemplate
	case "service.template":
		return &e.ServiceTemplate
	case "tmpfiles.template":
		return &e.Tmpfiles
	case "manifest.json":
		return &e.Manifest
	}
	return nil
}

func (c testCase) apply(tb testing.TB, in *unitgen.Input, rootfs map[string]unitgen.Entry, content map[string][]byte, hostfs []unitgen.HostFile) {
	in.Name, in.Generation, in.ImageName = c.Name, c.Generation, c.Image
	in.DestDir = "/var/lib/containers/atomic/" + c.Name + "." + strconv.Itoa(c.Generation)
	in.ImageConfig.Config, in.ImageConfig.Architecture = c.Config, "amd64"
	in.IDs = c.IDs
	in.Set, in.Previous, in.Grants, in.Options = c.Set, c.Previous, c.Grants, c.Options
	for p, kind := range c.Rootfs {
		rootfs[p] = entry(tb, kind)
	}
	for p := range maps.Clone(rootfs) {
		for d := path.Dir(p); d != "/"; d = path.Dir(d) {
			if _, ok := rootfs[d]; !ok {
				rootfs[d] = unitgen.Entry{Mode: fs.ModeDir | 0o755}
			}
		}
	}
	in.Exports.Lookup = func(p string) (unitgen.Entry, bool) { e, ok := rootfs[p]; return e, ok }
	in.Exports.ReadFile = func(p string) ([]byte, error) {
		if data, ok := content[p]; ok {
			return data, nil
		}
		return nil, fs.ErrNotExist
	}
	for p, kind := range c.Hostfs {
		i := slices.IndexFunc(hostfs, func(f unitgen.HostFile) bool { return f.Path == p })
		if i < 0 {
			i, hostfs = len(hostfs), append(hostfs, unitgen.HostFile{Path: p})
		}
		setKind(tb, &hostfs[i], kind)
	}
	slices.SortFunc(hostfs, func(a, b unitgen.HostFile) int { return strings.Compare(a.Path, b.Path) })
	in.Exports.HostFS = hostfs
	in.Host = unitgen.HostFacts{
		Capabilities: c.Capabilities,
		UUID:         "6f0c1a5e-3f0e-4b0a-9d52-0d6d2f1c7b11",
		Launcher:     "/usr/libexec/atomic/atomic-launch",
		Agent:        "/usr/bin/atomic",
		Exists:       func(p string) bool { return c.Host[p] != "" },
		IsDir:        func(p string) (bool, bool) { k := c.Host[p]; return k == "dir", k != "" },
		SELinux:      c.SELinux,
		Verity:       "try",
		Machined:     c.Machined,
		Systemd:      c.Systemd,
		NoUserNS:     c.NoUserNS,
	}
	if c.Launcher != "" {
		in.Host.Launcher = c.Launcher
	}
}

func entry(tb testing.TB, kind string) unitgen.Entry {
	if target, ok := strings.CutPrefix(kind, "-> "); ok {
		return unitgen.Entry{Mode: fs.ModeSymlink | 0o777, Target: target}
	}
	switch kind {
	case "dir":
		return unitgen.Entry{Mode: fs.ModeDir | 0o755}
	case "file":
		return unitgen.Entry{Mode: 0o644}
	}
	tb.Fatalf("unknown file type %q", kind)
	return unitgen.Entry{}
}

func setKind(tb testing.TB, f *unitgen.HostFile, kind string) {
	if kind == "fifo" {
		f.Mode = fs.ModeNamedPipe | 0o644
		return
	}
	var mode uint32
	if n, _ := fmt.Sscanf(kind, "%o %d:%d", &mode, &f.UID, &f.GID); n == 3 {
		f.Mode = fs.FileMode(mode & 0o777)
		if mode&0o4000 != 0 {
			f.Mode |= fs.ModeSetuid
		}
		if mode&0o2000 != 0 {
			f.Mode |= fs.ModeSetgid
		}
		return
	}
	e := entry(tb, kind)
	f.Mode, f.Target = e.Mode, e.Target
}

// TestRender compares what each archive of testdata/render renders to with
// its want/ files.
func TestRender(t *testing.T) {
	files, err := filepath.Glob("testdata/render/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, in := loadCase(t, file)
			got := rendered(t, in)
			if *update {
				ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, "want/") })
				for _, name := range slices.Sorted(maps.Keys(got)) {
					ar.Files = append(ar.Files, txtar.File{Name: "want/" + name, Data: []byte(got[name])})
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := map[string]string{}
			for _, f := range ar.Files {
				if name, ok := strings.CutPrefix(f.Name, "want/"); ok {
					want[name] = string(f.Data)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("rendered files (-want +got):\n%s", d)
			}
		})
	}
}

// rendered is the output of Render as files of text.
func rendered(t *testing.T, in unitgen.Input) map[string]string {
	t.Helper()
	out, err := unitgen.Render(in)
	if err != nil {
		var p *unitgen.Problems
		if !errors.As(err, &p) {
			t.Fatalf("error is %T, want *Problems", err)
		}
		return map[string]string{"problems": err.Error() + "\nhint: " + p.Hint() + "\n"}
	}
	got := map[string]string{"config.json": foldFilter(t, string(out.Config)), "report": report(out)}
	put := func(name string, content []byte) {
		if content != nil {
			got[name] = strings.TrimSuffix(string(content), "\n") + "\n"
		}
	}
	put(in.Name+".service", out.Unit)
	put("50-atomic.conf", out.DropIn)
	put("bus.socket", out.BusSocket)
	put("bus@.service", out.BusService)
	put("tmpfiles-"+in.Name+".conf", out.Tmpfiles)
	return got
}

// foldFilter puts the name of a file in testdata/seccomp in the place of a long
// system call filter: the default one would be most of every archive.
func foldFilter(t *testing.T, config string) string {
	t.Helper()
	const key = `"seccomp": `
	before, after, found := strings.Cut(config, key)
	if !found {
		return config
	}
	var filter json.RawMessage
	if err := json.NewDecoder(strings.NewReader(after)).Decode(&filter); err != nil {
		t.Fatal(err)
	}
	if len(filter) < 1000 {
		return config
	}
	file := fmt.Sprintf("testdata/seccomp/%.4x.json", sha256.Sum256(filter))
	if *update {
		if err := os.WriteFile(file, append(filter, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if _, err := os.Stat(file); err != nil {
		t.Errorf("a filter that is new: %v\n%s", err, filter)
	}
	return before + key + strconv.Quote(file) + after[len(filter):]
}

// report is everything of an output that is not a file.
func report(out *unitgen.Output) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("stop %s, notify %s %s, run once %t, links %t", out.StopSignal, out.Notify, out.NotifyPath, out.RunOnce, out.UseLinks)
	for _, m := range out.MountPoints {
		line("mount point %s dir=%t", m.Path, m.Dir)
	}
	for _, f := range out.HostFiles {
		line("host file %s %v %d:%d %s%q", f.Path, f.Mode, f.UID, f.GID, f.Target, f.Content)
	}
	for _, f := range out.HostFileTemplates {
		line("host template %s", f)
	}
	for _, k := range slices.Sorted(maps.Keys(out.Renames)) {
		line("rename %s %s", k, out.Renames[k])
	}
	for _, p := range out.Permissions {
		line("permission %s default=%t from %s", p.Grant, p.Default, p.Why)
	}
	for _, m := range out.Missing {
		line("missing %s", m)
	}
	for _, w := range out.Warnings {
		line("warning %s", w)
	}
	for _, k := range slices.Sorted(maps.Keys(out.Values)) {
		if k == "ALL_PROCESS_CAPABILITIES" && len(out.Values[k]) > 100 {
			continue // long, and the same for every case that names no capabilities
		}
		line("value %s=%q", k, out.Values[k])
	}
	return b.String()
}
