// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
)

// magic starts every plan, before its version.
const magic = "atomic-plan\n"

// Bounds of what Parse accepts. A real plan has a few kilobytes.
const (
	MaxSize = 1 << 20
	maxList = 1 << 14
)

// ErrVersion is returned for a plan of another version of the program.
var ErrVersion = errors.New("plan is of another version")

// Encode returns the plan as it is stored.
func (p *Plan) Encode() []byte {
	c := &codec{buf: append([]byte(magic), make([]byte, 8)...)}
	binary.LittleEndian.PutUint64(c.buf[len(magic):], Version)
	c.plan(p)
	return c.buf
}

// Parse reads a plan. Every plan has exactly one encoding; anything else is an
// error.
func Parse(data []byte) (*Plan, error) {
	head := len(magic) + 8
	switch {
	case len(data) > MaxSize:
		return nil, fmt.Errorf("parse plan: larger than %d bytes", MaxSize)
	case len(data) < head || string(data[:len(magic)]) != magic:
		return nil, errors.New("parse plan: not a plan")
	case binary.LittleEndian.Uint64(data[len(magic):]) != Version:
		return nil, ErrVersion
	}
	p := &Plan{}
	c := &codec{buf: data[head:], parse: true}
	c.plan(p)
	if c.err == nil && len(c.buf) > 0 {
		c.fail("data after its end")
	}
	if c.err == nil {
		c.check(p)
	}
	if c.err != nil {
		return nil, c.err
	}
	return p, nil
}

// check refuses what Compile never makes and what would lead an executor astray.
func (c *codec) check(p *Plan) {
	switch {
	case p.Namespaces&newMount == 0 || p.Namespaces&^allNamespaces != 0:
		c.fail("its namespaces are impossible")
	case !p.UserNS() && len(p.UIDs)+len(p.GIDs) > 0 || p.UserNS() && (len(p.UIDs) == 0 || len(p.GIDs) == 0):
		c.fail("user namespace and mapped IDs do not fit")
	case len(p.Args) == 0 || !path.IsAbs(p.Cwd):
		c.fail("there is nothing to execute")
	case len(p.Seccomp)%8 != 0 || len(p.Seccomp)/8 > math.MaxUint16:
		c.fail("its filter is damaged")
	}
	seen := p.Namespaces
	for _, j := range p.Joined {
		if !slices.Contains(joinable, j.Kind) || seen&j.Kind != 0 || !path.IsAbs(j.Path) {
			c.fail("a namespace cannot be joined")
		}
		seen |= j.Kind
	}
	for _, m := range slices.Concat(p.UIDs, p.GIDs) {
		if !m.possible() {
			c.fail("a range of IDs is impossible")
		}
	}
	for _, r := range p.Rlimits {
		if r.Kind >= uint64(len(rlimits)) {
			c.fail("a limit is unknown")
		}
	}
	for i := range p.Mounts {
		if t := p.Mounts[i].Target; !path.IsAbs(t) || t == "/" || path.Clean(t) != t {
			c.fail("a mount's target is no place in a container")
		}
		if m := p.Mounts[i].IDMap; m > IDMapRecursive || m != IDMapNone && (!p.UserNS() || !p.Mounts[i].Bind()) {
			c.fail("a mount's files cannot be mapped")
		}
	}
	for i := range p.Devices {
		if t := p.Devices[i].Path; !path.IsAbs(t) || t == "/" || path.Clean(t) != t {
			c.fail("a device's path is no place in a container")
		}
	}
}

// codec is one pass over a plan, in either direction: what describes the
// format is the sequence of calls in plan, and there is only one.
type codec struct {
	buf   []byte // what was written, or what is still to be read
	parse bool
	err   error
}

func (c *codec) plan(p *Plan) {
	c.text(&p.Config)
	c.text(&p.Rootfs)
	c.number(&p.Namespaces)
	list(c, &p.Joined, func(j *Join) {
		c.number(&j.Kind)
		c.text(&j.Path)
	})
	for _, ids := range []*[]IDMap{&p.UIDs, &p.GIDs} {
		list(c, ids, func(m *IDMap) {
			c.number(&m.Inside)
			c.number(&m.Outside)
			c.number(&m.Count)
		})
	}
	c.text(&p.Hostname)
	c.text(&p.Domainname)
	c.flag(&p.Loopback)
	c.number(&p.Propagation)
	c.flag(&p.ReadonlyRoot)
	list(c, &p.Mounts, func(m *Mount) {
		c.text(&m.Type)
		c.text(&m.Source)
		c.text(&m.Target)
		c.number(&m.Flags)
		c.text(&m.Data)
		c.number(&m.Set)
		c.number(&m.Clear)
		c.number(&m.RecSet)
		c.number(&m.RecClear)
		c.number(&m.Off)
		c.number(&m.IDMap)
		list(c, &m.Propagation, c.number)
	})
	c.flag(&p.SetupDev)
	list(c, &p.Devices, func(d *Device) {
		c.text(&d.Path)
		c.number(&d.Mode)
		c.number(&d.Major)
		c.number(&d.Minor)
		c.number(&d.UID)
		c.number(&d.GID)
	})
	list(c, &p.Sysctls, func(s *Sysctl) {
		c.text(&s.Path)
		c.text(&s.Value)
	})
	list(c, &p.Readonly, c.text)
	list(c, &p.Masked, c.text)
	option(c, &p.OOMScoreAdj, func(n *int64) {
		u := uint64(*n)
		c.number(&u)
		*n = int64(u)
	})
	list(c, &p.Rlimits, func(r *Rlimit) {
		c.number(&r.Kind)
		c.number(&r.Soft)
		c.number(&r.Hard)
	})
	c.number(&p.UID)
	c.number(&p.GID)
	list(c, &p.Groups, c.number)
	c.number(&p.Umask)
	option(c, &p.Caps, func(s *Caps) {
		c.number(&s.Bounding)
		c.number(&s.Effective)
		c.number(&s.Permitted)
		c.number(&s.Inheritable)
		c.number(&s.Ambient)
	})
	c.flag(&p.NoNewPrivileges)
	c.text(&p.Cwd)
	list(c, &p.Args, c.text)
	list(c, &p.Env, c.text)
	c.number(&p.SeccompFlags)
	c.bytes(&p.Seccomp)
}

func (c *codec) fail(text string) {
	if c.err == nil {
		c.err = errors.New("parse plan: " + text)
	}
}

func (c *codec) number(n *uint64) {
	switch {
	case !c.parse:
		c.buf = binary.LittleEndian.AppendUint64(c.buf, *n)
	case len(c.buf) < 8:
		c.fail("it ends too early")
		c.buf = nil
	default:
		*n = binary.LittleEndian.Uint64(c.buf)
		c.buf = c.buf[8:]
	}
}

func (c *codec) flag(b *bool) {
	var n uint64
	if *b {
		n = 1
	}
	c.number(&n)
	if *b = n == 1; n > 1 {
		c.fail("a truth value is neither 0 nor 1")
	}
}

// size reads or writes a length of things of at least unit bytes.
func (c *codec) size(have, unit int) int {
	n := uint64(have)
	c.number(&n)
	if c.parse && n > uint64(len(c.buf)/unit) {
		c.fail("a length is larger than what follows")
		return 0
	}
	return int(min(n, math.MaxInt32))
}

func (c *codec) bytes(b *[]byte) {
	n := c.size(len(*b), 1)
	switch {
	case !c.parse:
		c.buf = append(c.buf, *b...)
	case n > 0:
		*b = c.buf[:n:n]
		c.buf = c.buf[n:]
	}
}

// text is a string of a system call: it has no zero byte.
func (c *codec) text(s *string) {
	b := []byte(*s)
	c.bytes(&b)
	*s = string(b)
	for i := range b {
		if b[i] == 0 {
			c.fail("a text has a zero byte")
		}
	}
}

func list[T any](c *codec, items *[]T, each func(*T)) {
	n := c.size(len(*items), 8)
	if n > maxList {
		c.fail("a list is too long")
		return
	}
	if c.parse && n > 0 {
		*items = make([]T, n)
	}
	for i := range *items {
		each(&(*items)[i])
	}
}

func option[T any](c *codec, item **T, one func(*T)) {
	there := *item != nil
	c.flag(&there)
	if !there {
		return
	}
	if c.parse {
		*item = new(T)
	}
	one(*item)
}
