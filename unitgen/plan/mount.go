// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// fileSystems are those that a plan can mount.
var fileSystems = []string{"cgroup", "devpts", "mqueue", "proc", "sysfs", "tmpfs"}

func isBind(options []string) bool {
	return slices.Contains(options, "bind") || slices.Contains(options, "rbind")
}

func (c *compiler) mount(i int, m *specs.Mount) {
	where := fmt.Sprintf("mounts[%d]", i)
	target := path.Clean(m.Destination)
	switch {
	case !path.IsAbs(m.Destination) || target == "/" || strings.ContainsRune(m.Destination+m.Source+strings.Join(m.Options, ""), 0):
		c.unsupported(where+".destination", "%q", m.Destination)
		return
	case strings.HasPrefix(target, "/proc/") || target == "/proc" && m.Type != "proc":
		c.unsupported(where+".destination", "a mount in /proc")
		return
	}
	o, ok := c.options(where, m.Options)
	if !ok {
		return
	}
	if m.UIDMappings != nil || m.GIDMappings != nil {
		if !slices.Equal(idMaps(m.UIDMappings), c.plan.UIDs) || !slices.Equal(idMaps(m.GIDMappings), c.plan.GIDs) {
			c.unsupported(where, "an ID mapping that is not the container's")
			return
		}
		o.idMap = max(o.idMap, IDMapTop)
	}
	out := Mount{Type: m.Type, Source: m.Source, Target: target, Propagation: o.propagation, RecSet: o.recSet, RecClear: o.recClear}
	switch {
	case o.idMap != IDMapNone && (o.flags&msBind == 0 || !c.plan.UserNS()):
		c.unsupported(where, "an id-mapped mount that is no bind mount in a user namespace")
		return
	case o.flags&msBind != 0:
		if !path.IsAbs(m.Source) || len(o.data) > 0 {
			c.unsupported(where, "a bind mount with a relative source or with data")
			return
		}
		out.Type = "bind"
		out.Flags = o.flags & msRec
		out.Set, out.Clear, out.Off = o.bindAttributes()
		out.IDMap = o.idMap
	case !slices.Contains(fileSystems, m.Type):
		c.unsupported(where+".type", "the file system %q", m.Type)
		return
	case o.recSet|o.recClear != 0:
		c.unsupported(where+".options", "a recursive attribute of a new file system")
		return
	default:
		out.Flags, out.Data = o.flags, strings.Join(o.data, ",")
		if m.Type == "cgroup" {
			o.cleared = 0
			out.Set, out.Clear, _ = o.bindAttributes()
		}
	}
	c.plan.Mounts = append(c.plan.Mounts, out)
}

// options are mount options, sorted out.
type options struct {
	flags, cleared   uint64
	recSet, recClear uint64
	propagation      []uint64
	data             []string
	idMap            uint64
}

func (c *compiler) options(where string, list []string) (o options, ok bool) {
	for _, name := range list {
		if f, ok := mountFlags[name]; ok {
			if f.clear {
				o.flags &^= f.bits
				o.cleared |= f.bits
			} else {
				o.flags |= f.bits
				o.cleared &^= f.bits
			}
		} else if p, ok := propagations[name]; ok {
			o.propagation = append(o.propagation, p)
		} else if f, ok := recursiveAttributes[name]; ok {
			if f.clear {
				o.recClear |= f.bits
				o.recSet &^= f.bits
			} else {
				o.recSet |= f.bits
				o.recClear &^= f.bits
			}
			if f.bits&attrAtime == f.bits {
				o.recClear |= attrAtime
			}
		} else if name == "idmap" {
			o.idMap = IDMapTop
		} else if name == "ridmap" {
			o.idMap = IDMapRecursive
		} else if slices.Contains([]string{"remount", "tmpcopyup"}, name) {
			c.unsupported(where+".options", "%s", name)
			return o, false
		} else if name != "defaults" {
			o.data = append(o.data, name)
		}
	}
	return o, true
}

// bindAttributes is what a remount of a bind mount with these options changes:
// nothing if there are none, else all flags that are not asked for are off. The
// access time is kept unless an option speaks of it. off is what options turn off
// by name.
func (o *options) bindAttributes() (set, clear, off uint64) {
	if o.flags&^(msBind|msRec) == 0 && o.cleared == 0 {
		return 0, 0, 0
	}
	off = o.cleared & lockedFlags
	for _, f := range []struct{ ms, attr uint64 }{
		{msReadonly, attrReadonly},
		{msNosuid, attrNosuid},
		{msNodev, attrNodev},
		{msNoexec, attrNoexec},
		{msNosymfollow, attrNosymfollow},
	} {
		if o.flags&f.ms != 0 {
			set |= f.attr
		} else {
			clear |= f.attr
		}
	}
	if o.flags&(msNoatime|msNodiratime|msRelatime|msStrictatime) == 0 {
		return set, clear, off
	}
	clear |= attrAtime
	switch {
	case o.flags&msStrictatime != 0:
		set |= attrStrictatime
	case o.flags&msNoatime != 0:
		set |= attrNoatime
	}
	if o.flags&msNodiratime != 0 {
		return set | attrNodiratime, clear, off
	}
	return set, clear | attrNodiratime, off
}
