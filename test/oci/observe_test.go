// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// observation is what one engine made of one configuration.
type observation struct {
	code   int
	stderr string
	// values are normalised: two equal containers have equal values.
	values map[string]string
}

// refused reports whether no payload ran.
func (o *observation) refused() bool { return o.values["refused"] != "" }

func (o *observation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "code %d\n", o.code)
	for _, k := range slices.Sorted(maps.Keys(o.values)) {
		fmt.Fprintf(&b, "%s\t%s\n", k, o.values[k])
	}
	b.WriteString(o.stderr)
	return b.String()
}

// parse reads what the runner prints.
func parse(text string) *observation {
	o := &observation{values: map[string]string{}}
	known := map[string]string{}
	lists := map[string][]string{}
	var mounts []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		what, rest, _ := strings.Cut(line, " ")
		switch what {
		case "code":
			_, _ = fmt.Sscan(rest, &o.code)
		case "known":
			if link, name, ok := strings.Cut(rest, " "); ok && known[link] == "" {
				known[link] = name
			}
		case "err":
			o.stderr += rest + "\n"
		case "out":
			key, v, ok := strings.Cut(rest, "\t")
			if !ok {
				key, v = "garbage", rest
			}
			if key == "mount" {
				mounts = append(mounts, v)
			} else {
				lists[key] = append(lists[key], v)
			}
		}
	}
	for key, vs := range lists {
		if link := vs[0]; strings.HasPrefix(key, "ns.") {
			o.values[key] = "own"
			if name := known[link]; name != "" {
				o.values[key] = name
			}
			continue
		}
		switch key {
		case "env": // whose order means nothing
			sort.Strings(vs)
		case "cgroup": // of which only the unified hierarchy counts
			vs = slices.DeleteFunc(vs, func(s string) bool { return !strings.HasPrefix(s, "0::") })
		}
		o.values[key] = strings.Join(vs, "\n")
	}
	for key, v := range o.values {
		if strings.HasPrefix(key, "fd.") {
			o.values[key] = numberless(v)
		}
	}
	processes(o.values)
	mountTable(o.values, mounts)
	o.values["exit"] = fmt.Sprint(o.code)
	if _, ran := o.values["pid"]; !ran && o.code != 0 {
		// Which code a runtime gives its own failures is its own affair.
		o.values = map[string]string{"refused": "yes"}
	}
	return o
}

// numberless replaces the numbers of pipes and sockets.
func numberless(v string) string {
	before, rest, ok := strings.Cut(v, "[")
	if !ok {
		return v
	}
	_, after, _ := strings.Cut(rest, "]")
	return before + after
}

// processes replaces the numbers of processes that are not the first of a PID
// namespace.
func processes(values map[string]string) {
	self := values["pid"]
	for _, key := range []string{"ppid", "sid", "pgrp", "pid", "status.PPid", "status.NSpid", "status.NStgid", "status.NSpgid", "status.NSsid"} {
		fields := strings.Fields(values[key])
		for i, n := range fields {
			switch n {
			case "0", "1":
			case self:
				fields[i] = "self"
			default:
				fields[i] = "other"
			}
		}
		if len(fields) > 0 {
			values[key] = strings.Join(fields, " ")
		}
	}
}

// mountTable describes every mount under its place; what lies beneath another
// mount at the same place comes first. Numbers, which the kernel gives out, are
// replaced by what they stand for.
func mountTable(values map[string]string, lines []string) {
	type mount struct{ parent, point, text string }
	byID := map[string]mount{}
	var order []mount
	for _, line := range lines {
		fields := strings.Fields(line)
		sep := slices.Index(fields, "-")
		if sep < 6 || len(fields) < sep+3 {
			values["mount.garbage"] = line
			continue
		}
		var propagation []string
		for _, p := range fields[6:sep] {
			name, _, _ := strings.Cut(p, ":")
			propagation = append(propagation, name)
		}
		sort.Strings(propagation)
		super := ""
		if len(fields) > sep+3 {
			super = fields[sep+3]
		}
		m := mount{fields[1], fields[4], fmt.Sprintf("%s of %s %s %s [%s] %s",
			fields[3], fields[sep+1], fields[sep+2], fields[5], strings.Join(propagation, " "), super)}
		byID[fields[0]] = m
		order = append(order, m)
	}
	for _, m := range order {
		key := "mount." + m.point
		if values[key] != "" {
			values[key] += "\n"
		}
		on := "nothing"
		if p, ok := byID[m.parent]; ok {
			on = p.point
		}
		values[key] += m.text + " on " + on
	}
}

// differences are the keys in which two observations differ.
func differences(a, b *observation) []string {
	keys := map[string]bool{}
	for k := range a.values {
		keys[k] = a.values[k] != b.values[k]
	}
	for k := range b.values {
		keys[k] = a.values[k] != b.values[k]
	}
	if a.refused() != b.refused() {
		return []string{"refused"}
	}
	var differ []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if keys[k] {
			differ = append(differ, k)
		}
	}
	return differ
}
