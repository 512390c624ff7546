// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// minimal is a configuration that is supported; the cases change one place.
const minimal = `{"process": {"args": ["x"], "capabilities": {}}, "root": {"path": "rootfs", "readonly": true},
"linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}]}}`

// change sets one place of minimal. A path of names and, for a list, "+".
func change(t *testing.T, place, value string) string {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(minimal), &doc); err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal([]byte(value), &v); err != nil {
		t.Fatal(err)
	}
	at := doc
	names := strings.Split(place, "/")
	for i, name := range names {
		list, _ := at[name].([]any)
		switch {
		case i+2 == len(names) && names[i+1] == "+":
			at[name] = append(list, v)
		case name == "+":
		case i+1 == len(names):
			at[name] = v
		default:
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Every feature of the runtime specification is supported, or refused with its
// place.
func TestSupported(t *testing.T) {
	const (
		user   = `{"namespaces": [{"type": "mount"}, {"type": "user"}], "uidMappings": [{"hostID": 9, "size": 9}], "gidMappings": [{"hostID": 9, "size": 9}]}`
		filter = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ERRNO"}]}`
	)
	for _, tt := range []struct {
		place, value string
		refused      string // a part of the problem; empty: supported
	}{
		{"hostname", `"x"`, ""},
		{"domainname", `"x"`, ""},
		{"annotations", `{"a": "b"}`, ""},
		{"windows", `{"layerFolders": []}`, "windows: "},
		{"solaris", `{}`, "solaris: "},
		{"vm", `{"kernel": {"path": "/x"}}`, "vm: "},

		{"process/terminal", `true`, "process.terminal"},
		{"process/cwd", `"x"`, "process.cwd"},
		{"process/args", `[]`, "process.args"},
		{"process/user", `{"uid": 1, "gid": 2, "umask": 63, "additionalGids": [3]}`, ""},
		{"process/capabilities", `{"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]}`, ""},
		{"process/rlimits", `[{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]`, ""},
		{"process/rlimits", `[{"type": "RLIMIT_FUN", "soft": 1, "hard": 2}]`, "process.rlimits.0: "},
		{"process/rlimits", `[{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 2}]`, "process.rlimits.0: "},
		{"process/rlimits", `[{"type": "RLIMIT_CPU", "soft": 1, "hard": 2}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 2}]`, "process.rlimits.1: "},
		{"process/oomScoreAdj", `100`, ""},
		{"process/oomScoreAdj", `1001`, "process.oomScoreAdj: "},
		{"process/noNewPrivileges", `true`, ""},
		{"process/scheduler", `{"policy": "SCHED_BATCH", "nice": 3}`, ""},
		{"process/scheduler", `{"policy": "SCHED_FUN"}`, "process.scheduler: "},
		{"process/ioPriority", `{"class": "IOPRIO_CLASS_BE", "priority": 3}`, ""},
		{"process/ioPriority", `{"class": "IOPRIO_CLASS_BE", "priority": 8}`, "process.ioPriority: "},
		{"process/execCPUAffinity", `{"initial": "0"}`, ""},

		{"mounts/+", `{"destination": "/x", "type": "tmpfs"}`, ""},
		{"mounts/+", `{"destination": "/", "type": "tmpfs"}`, "not a place"},
		{"mounts/+", `{"destination": "/x", "type": "bind", "source": "/y", "options": ["bind"], "uidMappings": [{"size": 1}], "gidMappings": [{"size": 1}]}`, ""},
		{"mounts/+", `{"destination": "/x", "type": "bind", "source": "/y", "options": ["bind"], "uidMappings": [{"size": 1}]}`, "mounts.0: "},
		{"mounts/+", `{"destination": "/x", "type": "bind", "source": "/y", "options": ["bind", "idmap"]}`, "mounts.0: "},
		{"mounts/+", `{"destination": "/x", "type": "tmpfs", "uidMappings": [{"size": 1}], "gidMappings": [{"size": 1}]}`, "mounts.0: "},

		{"hooks", `{"createContainer": [{"path": "/x"}]}`, ""},
		{"hooks", `{"createContainer": [{"path": "x"}]}`, "hooks.createContainer: "},

		{"linux/namespaces/+", `{"type": "cgroup"}`, ""},
		{"linux/namespaces/+", `{"type": "time"}`, ""},
		{"linux/namespaces/+", `{"type": "pid"}`, "linux.namespaces.5: "},
		{"linux/namespaces/+", `{"type": "fun"}`, "linux.namespaces.5: "},
		{"linux/namespaces/+", `{"type": "time", "path": "x"}`, "linux.namespaces.5: "},
		{"linux/namespaces/+", `{"type": "user"}`, "linux.namespaces: "},
		{"linux/namespaces/+", `{"type": "user", "path": "/x"}`, ""},
		{"linux/namespaces", `[{"type": "pid"}]`, "linux.namespaces: "},
		{"linux/namespaces", `[{"type": "mount", "path": "/proc/1/ns/mnt"}]`, "linux.namespaces.0: "},
		{"linux", user, ""},
		{"linux/uidMappings", `[{"size": 1}]`, "linux.uidMappings: "},
		{"linux/timeOffsets", `{"boottime": {"secs": 1}}`, "linux.timeOffsets: "},
		{"linux", `{"namespaces": [{"type": "mount"}, {"type": "time"}], "timeOffsets": {"realtime": {"secs": 1}}}`, "linux.timeOffsets: "},
		{"linux", `{"namespaces": [{"type": "mount"}, {"type": "time"}], "timeOffsets": {"boottime": {"secs": 1}}}`, ""},

		{"linux/sysctl", `{"net.ipv4.ip_forward": "1", "kernel.shmmax": "1", "fs.mqueue.msg_max": "1", "kernel.domainname": "x"}`, ""},
		{"linux/sysctl", `{"net/ipv4/ip_forward": "1"}`, ""},
		{"linux/sysctl", `{"kernel.core_pattern": "|/x"}`, "linux.sysctl: kernel.core_pattern"},
		{"linux/sysctl", `{"kernel.hostname": "x"}`, "linux.sysctl: kernel.hostname"},
		{"linux/sysctl", `{"user.max_user_namespaces": "1"}`, "linux.sysctl: user."},
		{"linux", `{"namespaces": [{"type": "mount"}], "sysctl": {"net.core.somaxconn": "1"}}`, "linux.sysctl: net."},
		{"linux", `{"namespaces": [{"type": "mount"}], "sysctl": {"kernel.sem": "1"}}`, "linux.sysctl: kernel.sem"},

		{"linux/devices", `[{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}, {"path": "/dev/y", "type": "p"}]`, ""},
		{"linux/devices", `[{"path": "/dev/x", "type": "s"}]`, "linux.devices.0: "},
		{"linux/maskedPaths", `["/x"]`, ""},
		{"linux/maskedPaths", `["x"]`, "linux.maskedPaths.0: "},
		{"linux/readonlyPaths", `["x"]`, "linux.readonlyPaths.0: "},
		{"linux/rootfsPropagation", `"rslave"`, ""},
		{"linux/rootfsPropagation", `"fun"`, "linux.rootfsPropagation: "},
		{"linux/personality", `{"domain": "LINUX32"}`, ""},
		{"linux/personality", `{"domain": "BSD"}`, "linux.personality: "},
		{"linux/personality", `{"domain": "LINUX", "flags": ["X"]}`, "linux.personality: "},
		{"linux/memoryPolicy", `{"mode": "MPOL_DEFAULT"}`, ""},
		{"linux/mountLabel", `"x"`, ""},
		{"linux/intelRdt", `{"closID": "x"}`, "linux.intelRdt: "},
		{"linux/netDevices", `{"eth0": {}}`, "linux.netDevices: "},

		{"linux/seccomp", filter, ""},
		{"linux/seccomp", `{"defaultAction": "SCMP_ACT_NOTIFY"}`, "linux.seccomp.defaultAction: "},
		{"linux/seccomp", `{"defaultAction": "SCMP_ACT_FUN"}`, "linux.seccomp.defaultAction: "},
		{"linux/seccomp", `{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}`, "linux.seccomp.listenerPath: "},
		{"linux/seccomp", `{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}`, "linux.seccomp.architectures.0: "},
		{"linux/seccomp", `{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_NEW_LISTENER"]}`, "linux.seccomp.flags.1: "},
		{"linux/seccomp", `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}`, "linux.seccomp.syscalls.0.names: "},
		{"linux/seccomp", `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]}`, "linux.seccomp.syscalls.0.args.0: "},

		{"linux/resources", `{"memory": {"limit": 1, "swappiness": 10}, "pids": {"limit": 5}, "cpu": {"shares": 5}}`, ""},
		{"linux/resources", `{"memory": {"disableOOMKiller": true}}`, "linux.resources.memory.disableOOMKiller: "},
		{"linux/resources", `{"memory": {"kernel": 5}}`, "linux.resources.memory.kernel: "},
		{"linux/resources", `{"cpu": {"realtimeRuntime": 5}}`, "linux.resources.cpu.realtimeRuntime: "},
		{"linux/resources", `{"cpu": {"burst": 5}}`, "linux.resources.cpu.burst: "},
		{"linux/resources", `{"blockIO": {"leafWeight": 5}}`, "linux.resources.blockIO.leafWeight: "},
		{"linux/resources", `{"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}`, "linux.resources.hugepageLimits: "},
		{"linux/resources", `{"network": {"classID": 1}}`, "linux.resources.network: "},
		{"linux/resources", `{"rdma": {"x": {"hcaHandles": 1}}}`, "linux.resources.rdma: "},
		{"linux/resources", `{"unified": {"memory.high": "5"}}`, ""},
		{"linux/resources", `{"unified": {"memory.high": "5\nX=1"}}`, "linux.resources.unified.memory.high: "},
		{"linux/resources", `{"unified": {"cgroup.procs": "1"}}`, "linux.resources.unified.cgroup.procs: "},
	} {
		t.Run(tt.place+" "+tt.value, func(t *testing.T) {
			_, err := Render(Input{
				Name: "x", DestDir: "/var/lib/containers/atomic/x.0",
				Exports: Exports{ConfigTemplate: []byte(change(t, tt.place, tt.value))},
				Host:    HostFacts{Launcher: "/launch"},
			})
			switch {
			case tt.refused == "" && err != nil:
				t.Error(err)
			case tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)):
				t.Errorf("got %v, want %q", err, tt.refused)
			}
		})
	}
}

func TestResourceProperties(t *testing.T) {
	var res rspec.LinuxResources
	err := json.Unmarshal([]byte(`{"memory": {"limit": 1000, "swap": 1500, "reservation": 500},
		"cpu": {"shares": 1024, "quota": 5000, "period": 10000, "cpus": "0-1", "mems": "0"}, "pids": {"limit": 9},
		"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
			"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 7}], "throttleWriteIOPSDevice": [{"major": 8, "minor": 2, "rate": 6}]},
		"unified": {"memory.high": "max", "cpu.max": "2000 4000", "memory.oom.group": "1", "io.weight": "default 50", "unknown": "x"}}`), &res)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range resourceProperties(&res) {
		got = append(got, p.key+"="+p.value)
	}
	want := []string{
		"MemoryMax=1000", "MemorySwapMax=500", "MemoryLow=500",
		"CPUWeight=39", "CPUQuotaPeriodSec=10000us", "CPUQuota=50%", "AllowedCPUs=0-1", "AllowedMemoryNodes=0", "TasksMax=9",
		"IOWeight=4950", "IODeviceWeight=/dev/block/8:0 1", "IOReadBandwidthMax=/dev/block/8:1 7", "IOWriteIOPSMax=/dev/block/8:2 6",
		"CPUQuotaPeriodSec=4000us", "CPUQuota=50%", "IOWeight=50", "MemoryHigh=infinity", "OOMPolicy=kill",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// docs/resources.md has a row for every member that linux.resources can have.
func TestResourcesDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/resources.md")
	if err != nil {
		t.Fatal(err)
	}
	var check func(t *testing.T, prefix string, typ reflect.Type)
	check = func(t *testing.T, prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			name = prefix + name
			if f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct && !strings.Contains(string(doc), "`"+name+"`") {
				check(t, name+".", f.Type.Elem())
				continue
			}
			if !strings.Contains(string(doc), "`"+name+"`") && !strings.Contains(string(doc), "`"+name+": ") {
				t.Errorf("no row for %s", name)
			}
		}
	}
	check(t, "", reflect.TypeFor[rspec.LinuxResources]())
}
