// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// property is one unit property that a limit of config.json becomes.
type property struct{ key, value string }

// resourceProperties translates linux.resources, all but devices, into unit
// properties: the cgroup is systemd's. docs/resources.md has the table. What
// has no property is refused by checkResources, so nothing is lost silently.
func resourceProperties(res *rspec.LinuxResources) []property {
	if res == nil {
		return nil
	}
	var all []property
	set := func(key, format string, args ...any) { all = append(all, property{key, fmt.Sprintf(format, args...)}) }
	if m := res.Memory; m != nil {
		if m.Limit != nil && *m.Limit > 0 {
			set("MemoryMax", "%d", *m.Limit)
		}
		if m.Limit != nil && m.Swap != nil && *m.Swap >= *m.Limit && *m.Limit > 0 {
			set("MemorySwapMax", "%d", *m.Swap-*m.Limit)
		}
		if m.Reservation != nil && *m.Reservation > 0 {
			set("MemoryLow", "%d", *m.Reservation)
		}
	}
	if c := res.CPU; c != nil {
		switch {
		case c.Idle != nil && *c.Idle == 1:
			set("CPUWeight", "idle")
		case c.Shares != nil && *c.Shares >= 2:
			set("CPUWeight", "%d", min(1+(*c.Shares-2)*9999/262142, 10000))
		}
		if c.Quota != nil && *c.Quota > 0 {
			period := uint64(100000)
			if c.Period != nil && *c.Period > 0 {
				period = *c.Period
				set("CPUQuotaPeriodSec", "%dus", period)
			}
			set("CPUQuota", "%d%%", max(uint64(*c.Quota)*100/period, 1))
		}
		if c.Cpus != "" {
			set("AllowedCPUs", "%s", quoteWord(c.Cpus))
		}
		if c.Mems != "" {
			set("AllowedMemoryNodes", "%s", quoteWord(c.Mems))
		}
	}
	if p := res.Pids; p != nil && p.Limit != nil && *p.Limit > 0 {
		set("TasksMax", "%d", *p.Limit)
	}
	all = append(all, blockIO(res.BlockIO)...)
	for _, file := range slices.Sorted(maps.Keys(res.Unified)) {
		if p, ok := unified(file, res.Unified[file]); ok {
			all = append(all, p...)
		}
	}
	return all
}

// blockIO translates weights, which were 10 to 1000 in the old hierarchy, and
// limits per device.
func blockIO(b *rspec.LinuxBlockIO) []property {
	if b == nil {
		return nil
	}
	var all []property
	device := func(major, minor int64) string { return fmt.Sprintf("/dev/block/%d:%d", major, minor) }
	weight := func(w uint16) uint64 { return max(1, min(1+(uint64(max(w, 10))-10)*9999/990, 10000)) }
	if b.Weight != nil && *b.Weight > 0 {
		all = append(all, property{"IOWeight", strconv.FormatUint(weight(*b.Weight), 10)})
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			all = append(all, property{"IODeviceWeight", fmt.Sprintf("%s %d", device(d.Major, d.Minor), weight(*d.Weight))})
		}
	}
	for _, limit := range []struct {
		key     string
		devices []rspec.LinuxThrottleDevice
	}{
		{"IOReadBandwidthMax", b.ThrottleReadBpsDevice},
		{"IOWriteBandwidthMax", b.ThrottleWriteBpsDevice},
		{"IOReadIOPSMax", b.ThrottleReadIOPSDevice},
		{"IOWriteIOPSMax", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range limit.devices {
			all = append(all, property{limit.key, fmt.Sprintf("%s %d", device(d.Major, d.Minor), d.Rate)})
		}
	}
	return all
}

// unified translates a file of the cgroup hierarchy.
func unified(file, value string) ([]property, bool) {
	limit := value
	if limit == "max" {
		limit = "infinity"
	}
	keys := map[string]string{
		"memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh", "memory.max": "MemoryMax",
		"memory.swap.max": "MemorySwapMax", "memory.zswap.max": "MemoryZSwapMax", "pids.max": "TasksMax",
		"cpu.weight": "CPUWeight", "cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes",
	}
	if key := keys[file]; key != "" {
		if limit == "" || strings.ContainsFunc(limit, isControl) || file != "cpuset.cpus" && file != "cpuset.mems" && limit != "infinity" && strings.Trim(limit, "0123456789") != "" {
			return nil, false
		}
		return []property{{key, quoteWord(limit)}}, true
	}
	fields := strings.Fields(value)
	switch {
	case file == "cpu.idle" && value == "1":
		return []property{{"CPUWeight", "idle"}}, true
	case file == "memory.oom.group" && (value == "0" || value == "1"):
		policy := map[string]string{"0": "stop", "1": "kill"}[value]
		return []property{{"OOMPolicy", policy}}, true
	case file == "io.weight" && len(fields) > 0:
		w := strings.TrimPrefix(value, "default ")
		if n, err := strconv.ParseUint(w, 10, 16); err == nil && n >= 1 && n <= 10000 {
			return []property{{"IOWeight", w}}, true
		}
	case file == "cpu.max" && len(fields) == 2:
		quota, err := strconv.ParseUint(fields[0], 10, 62)
		period, perr := strconv.ParseUint(fields[1], 10, 62)
		if err == nil && perr == nil && period > 0 {
			return []property{{"CPUQuotaPeriodSec", fields[1] + "us"}, {"CPUQuota", strconv.FormatUint(max(quota*100/period, 1), 10) + "%"}}, true
		}
	}
	return nil, false
}

// checkResources refuses limits that no unit property expresses.
func checkResources(res *rspec.LinuxResources, bad reporter) {
	if res == nil {
		return
	}
	const at = "/linux/resources"
	if m := res.Memory; m != nil {
		// The original's templates have swappiness and the like; with the
		// unified hierarchy no runtime can set them.
		if m.Kernel != nil && *m.Kernel > 0 || m.KernelTCP != nil && *m.KernelTCP > 0 { //nolint:staticcheck // old images may have it.
			bad(at+"/memory/kernel", "the kernel has no limit for its own memory any more")
		}
		if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
			bad(at+"/memory/disableOOMKiller", "the kernel cannot turn it off any more; OOMScoreAdjust= comes close")
		}
	}
	if c := res.CPU; c != nil {
		if c.RealtimeRuntime != nil && *c.RealtimeRuntime > 0 || c.RealtimePeriod != nil && *c.RealtimePeriod > 0 {
			bad(at+"/cpu/realtimeRuntime", "no unit property limits real-time scheduling")
		}
		if c.Burst != nil && *c.Burst > 0 {
			bad(at+"/cpu/burst", "no unit property allows bursts")
		}
	}
	if b := res.BlockIO; b != nil {
		if b.LeafWeight != nil && *b.LeafWeight > 0 || slices.ContainsFunc(b.WeightDevice, func(d rspec.LinuxWeightDevice) bool { return d.LeafWeight != nil && *d.LeafWeight > 0 }) {
			bad(at+"/blockIO/leafWeight", "the unified hierarchy has no leaf weights")
		}
	}
	if len(res.HugepageLimits) > 0 {
		bad(at+"/hugepageLimits", "no unit property limits huge pages")
	}
	if n := res.Network; n != nil && (n.ClassID != nil && *n.ClassID > 0 || len(n.Priorities) > 0) {
		bad(at+"/network", "the unified hierarchy has no classes and priorities of networks")
	}
	if len(res.Rdma) > 0 {
		bad(at+"/rdma", "no unit property limits RDMA")
	}
	for _, file := range slices.Sorted(maps.Keys(res.Unified)) {
		if _, ok := unified(file, res.Unified[file]); !ok {
			bad(at+"/unified/"+file, "%q is no value that a unit property expresses", res.Unified[file])
		}
	}
}
