// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestCompile compares plans, as people see them, with golden files.
func TestCompile(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := compile(t, a.Files[0].Data)
			var got bytes.Buffer
			if err := p.Show(&got); err != nil {
				t.Fatal(err)
			}
			if *update {
				a.Files = append(a.Files[:1], txtar.File{Name: "plan", Data: got.Bytes()})
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(a.Files[1].Data), got.String()); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
			again, err := Parse(p.Encode())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(p, again); d != "" {
				t.Errorf("encoded and parsed: -want +got\n%s", d)
			}
		})
	}
}

func compile(t *testing.T, config []byte) *Plan {
	t.Helper()
	var spec specs.Spec
	if err := json.Unmarshal(config, &spec); err != nil {
		t.Fatal(err)
	}
	p, err := Compile(&spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Config, p.Rootfs = strings.Repeat("c", 64), strings.Repeat("f", 64)
	return p
}

// joining adds a namespace, of others if it has a path.
func joining(kind specs.LinuxNamespaceType, path string) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
}

var ids = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}

// userNS gives a configuration a user namespace, and changes it.
func userNS(change func(*specs.Spec)) func(*specs.Spec) {
	return func(s *specs.Spec) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		change(s)
	}
}

// minimal is a configuration that has a plan.
func minimal() *specs.Spec {
	return &specs.Spec{
		Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	}
}

func TestUnsupported(t *testing.T) {
	mount := func(m specs.Mount) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Mounts = append(s.Mounts, m) }
	}
	for name, tt := range map[string]struct {
		change func(*specs.Spec)
		where  string
	}{
		"terminal":           {func(s *specs.Spec) { s.Process.Terminal = true }, "process.terminal"},
		"no command":         {func(s *specs.Spec) { s.Process.Args = nil }, "process"},
		"hooks":              {func(s *specs.Spec) { s.Hooks = &specs.Hooks{} }, "hooks"},
		"label":              {func(s *specs.Spec) { s.Process.SelinuxLabel = "x" }, "process.selinuxLabel"},
		"profile":            {func(s *specs.Spec) { s.Process.ApparmorProfile = "x" }, "process.apparmorProfile"},
		"scheduler":          {func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{} }, "process.scheduler"},
		"i/o priority":       {func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{} }, "process.ioPriority"},
		"zero byte":          {func(s *specs.Spec) { s.Process.Args = []string{"a\x00b"} }, "process"},
		"unknown capability": {func(s *specs.Spec) { s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_X"}} }, "process.capabilities.bounding"},
		"unknown limit":      {func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, "process.rlimits[0]"},
		"limit twice": {func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_CORE"}}
		}, "process.rlimits[1]"},
		"no linux":           {func(s *specs.Spec) { s.Linux = nil }, "linux"},
		"no mount namespace": {func(s *specs.Spec) { s.Linux.Namespaces = nil }, "linux.namespaces"},
		"joined mounts":      {func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/run/x" }, "linux.namespaces[0]"},
		"joined users":       {joining(specs.UserNamespace, "/run/x"), "linux.namespaces[1]"},
		"joined, relative":   {joining(specs.NetworkNamespace, "x"), "linux.namespaces[1]"},
		"joined and made": {func(s *specs.Spec) {
			joining(specs.NetworkNamespace, "/run/x")(s)
			joining(specs.NetworkNamespace, "")(s)
		}, "linux.namespaces[2]"},
		"sysctl of others": {func(s *specs.Spec) {
			joining(specs.NetworkNamespace, "/run/x")(s)
			s.Linux.Sysctl = map[string]string{"net.x": "1"}
		}, "linux.sysctl"},
		"host name of others": {func(s *specs.Spec) {
			joining(specs.UTSNamespace, "/run/x")(s)
			s.Hostname = "x"
		}, "hostname"},
		"namespace twice": {func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces...) }, "linux.namespaces[1]"},
		"user namespace, no IDs": {func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}, "linux.uidMappings"},
		"IDs, no user namespace": {func(s *specs.Spec) { s.Linux.GIDMappings = ids }, "linux.gidMappings"},
		"impossible IDs": {userNS(func(s *specs.Spec) {
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 1, Size: 1<<32 - 1}}
		}), "linux.uidMappings"},
		"other id map": {userNS(mount(specs.Mount{
			Destination: "/x", Source: "/x", Options: []string{"bind"},
			UIDMappings: []specs.LinuxIDMapping{{HostID: 7, Size: 1}}, GIDMappings: ids,
		})), "mounts[0]"},
		"id map of tmpfs":     {userNS(mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"idmap"}})), "mounts[0]"},
		"time offsets":        {func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{} }, "linux.timeOffsets"},
		"personality":         {func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{} }, "linux.personality"},
		"host name of host":   {func(s *specs.Spec) { s.Hostname = "x" }, "hostname"},
		"propagation":         {func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" }, "linux.rootfsPropagation"},
		"mask of itself":      {func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/proc/self/../self/environ"} }, "linux.maskedPaths"},
		"readonly of itself":  {func(s *specs.Spec) { s.Linux.ReadonlyPaths = []string{"/proc/thread-self/attr"} }, "linux.maskedPaths"},
		"directory of itself": {func(s *specs.Spec) { s.Process.Cwd = "/proc/self" }, "process.cwd"},
		"relative mask":       {func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"x"} }, "linux.maskedPaths"},
		"device type":         {func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "x"}} }, "linux.devices[0]"},
		"device path":         {func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "x", Type: "c"}} }, "linux.devices[0]"},
		"sysctl of the host":  {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"vm.swappiness": "1"} }, "linux.sysctl"},
		"sysctl, no such ns":  {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.x": "1"} }, "linux.sysctl"},
		"seccomp, notify":     {func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{ListenerPath: "/x"} }, "linux.seccomp.listenerPath"},
		"file system":         {mount(specs.Mount{Destination: "/x", Type: "ext4", Source: "/dev/x"}), "mounts[0].type"},
		"on the root":         {mount(specs.Mount{Destination: "/x/..", Type: "tmpfs"}), "mounts[0].destination"},
		"relative target":     {mount(specs.Mount{Destination: "x", Type: "tmpfs"}), "mounts[0].destination"},
		"in proc":             {mount(specs.Mount{Destination: "/proc/stat", Type: "bind", Source: "/x", Options: []string{"bind"}}), "mounts[0].destination"},
		"proc is no proc":     {mount(specs.Mount{Destination: "/proc", Type: "tmpfs"}), "mounts[0].destination"},
		"id map":              {mount(specs.Mount{Destination: "/x", Source: "/x", Options: []string{"bind", "idmap"}}), "mounts[0]"},
		"copy up":             {mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"tmpcopyup"}}), "mounts[0].options"},
		"bind with data":      {mount(specs.Mount{Destination: "/x", Source: "/x", Options: []string{"bind", "mode=755"}}), "mounts[0]"},
		"bind, relative":      {mount(specs.Mount{Destination: "/x", Source: "x", Options: []string{"bind"}}), "mounts[0]"},
		"recursive, no bind":  {mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"rro"}}), "mounts[0].options"},
		"bind as a type only": {mount(specs.Mount{Destination: "/x", Type: "bind", Source: "/x"}), "mounts[0].type"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := minimal()
			tt.change(spec)
			_, err := Compile(spec)
			var u *Unsupported
			if !errors.As(err, &u) || u.Where != tt.where {
				t.Errorf("got %v, want one at %s", err, tt.where)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for text, want := range map[string]Mount{
		"bind":                         {},
		"rbind":                        {Flags: msRec},
		"bind ro":                      {Set: attrReadonly, Clear: attrNosuid | attrNodev | attrNoexec | attrNosymfollow},
		"bind rw":                      {Clear: attrReadonly | attrNosuid | attrNodev | attrNoexec | attrNosymfollow, Off: msReadonly},
		"bind ro rw nosuid":            {Set: attrNosuid, Clear: attrReadonly | attrNodev | attrNoexec | attrNosymfollow, Off: msReadonly},
		"bind noatime":                 {Set: attrNoatime, Clear: attrReadonly | attrNosuid | attrNodev | attrNoexec | attrNosymfollow | attrAtime | attrNodiratime},
		"bind rprivate":                {Propagation: []uint64{msPrivate | msRec}},
		"rbind rro":                    {Flags: msRec, RecSet: attrReadonly},
		"bind strictatime nodiratime":  {Set: attrStrictatime | attrNodiratime, Clear: attrReadonly | attrNosuid | attrNodev | attrNoexec | attrNosymfollow | attrAtime},
		"bind defaults shared private": {Propagation: []uint64{msShared, msPrivate}},
		"bind idmap":                   {IDMap: IDMapTop},
		"rbind ridmap":                 {Flags: msRec, IDMap: IDMapRecursive},
		"bind exec norelatime":         {Clear: attrReadonly | attrNosuid | attrNodev | attrNoexec | attrNosymfollow, Off: msNoexec | msRelatime},
	} {
		spec := minimal()
		userNS(func(*specs.Spec) {})(spec)
		spec.Mounts = []specs.Mount{{Destination: "/a", Source: "/b", Options: strings.Fields(text)}}
		p, err := Compile(spec)
		if err != nil {
			t.Fatal(err)
		}
		want.Type, want.Source, want.Target = "bind", "/b", "/a"
		if d := cmp.Diff(want, p.Mounts[0]); d != "" {
			t.Errorf("%s: -want +got\n%s", text, d)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := func(change func(*Plan)) []byte {
		p, err := Compile(minimal())
		if err != nil {
			t.Fatal(err)
		}
		change(p)
		return p.Encode()
	}
	plain := good(func(*Plan) {})
	if _, err := Parse(plain); err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(plain)
	other[len(magic)]++
	if _, err := Parse(other); !errors.Is(err, ErrVersion) {
		t.Errorf("another version: %v", err)
	}
	for name, data := range map[string][]byte{
		"nothing":            nil,
		"something else":     []byte("{}\n"),
		"cut off":            plain[:len(plain)-1],
		"with a tail":        append(bytes.Clone(plain), 0),
		"no mount namespace": good(func(p *Plan) { p.Namespaces = newPID }),
		"user namespace":     good(func(p *Plan) { p.Namespaces |= newUser }),
		"time namespace":     good(func(p *Plan) { p.Namespaces |= 0x80 }),
		"IDs of nobody":      good(func(p *Plan) { p.UIDs = []IDMap{{0, 1, 1}} }),
		"no IDs": good(func(p *Plan) {
			p.Namespaces |= newUser
			p.UIDs, p.GIDs = []IDMap{{0, 1, 1}}, []IDMap{{0, 1, 0}}
		}),
		"mapped files":       good(func(p *Plan) { p.Mounts = []Mount{{Type: "bind", Target: "/a", IDMap: IDMapTop}} }),
		"joined mounts":      good(func(p *Plan) { p.Joined = []Join{{newMount, "/x"}} }),
		"joined twice":       good(func(p *Plan) { p.Joined = []Join{{newNet, "/x"}, {newNet, "/y"}} }),
		"nothing to execute": good(func(p *Plan) { p.Args = nil }),
		"relative directory": good(func(p *Plan) { p.Cwd = "x" }),
		"half a filter":      good(func(p *Plan) { p.Seccomp = make([]byte, 12) }),
		"unknown limit":      good(func(p *Plan) { p.Rlimits = []Rlimit{{Kind: 99}} }),
		"target":             good(func(p *Plan) { p.Mounts = []Mount{{Target: "/a/../.."}} }),
		"device":             good(func(p *Plan) { p.Devices = []Device{{Path: "/"}} }),
		"zero byte":          good(func(p *Plan) { p.Env = []string{"A=\x00"} }),
	} {
		if _, err := Parse(data); err == nil || errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse checks that every plan that parses is the only encoding of itself,
// and can be shown.
func FuzzParse(f *testing.F) {
	p, err := Compile(minimal())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Encode())
	p.Mounts = []Mount{{Type: "bind", Source: "/a", Target: "/b", Propagation: []uint64{1}}}
	p.Caps, p.Seccomp = &Caps{Bounding: 1}, make([]byte, 16)
	p.Namespaces |= newUser
	p.Joined = []Join{{newNet, "/run/netns/x"}}
	p.UIDs, p.GIDs, p.Mounts[0].IDMap = []IDMap{{0, 1, 1}}, []IDMap{{0, 1, 1}}, IDMapTop
	p.Rlimits, p.Groups, p.Sysctls = []Rlimit{{1, 2, 3}}, []uint64{1}, []Sysctl{{"a", "b"}}
	f.Add(p.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Encode(), data) {
			t.Error("it has another encoding")
		}
		if err := p.Show(&bytes.Buffer{}); err != nil {
			t.Error(err)
		}
	})
}
