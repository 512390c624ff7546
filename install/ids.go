// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atomic-agent/atomic/install/record"
	"github.com/atomic-agent/atomic/install/store/mount"
	"github.com/atomic-agent/atomic/internal/hint"
)

// The IDs that systemd sets aside for containers (systemd.io/UIDS-GIDS), in
// ranges of 64 Ki that begin at multiples of it.
const (
	idsFirst = 0x00080000
	idsEnd   = 0x70000000
	idsCount = 1 << 16
)

// chooseIDs returns the IDs of a container's user namespace. A container keeps
// what it has; a new one gets a range that follows from its name, so that it is
// likely to have the same one on every host and after a reinstallation, or the
// next one that is free.
func (a *Agent) chooseIDs(name string) (*record.IDs, error) {
	gens, err := a.generations(name)
	if err != nil {
		return nil, err
	}
	for i := len(gens) - 1; i >= 0; i-- {
		if d, err := a.load(name, gens[i]); err == nil && d.rec.Atomic.IDs != nil {
			return d.rec.Atomic.IDs, nil
		}
	}
	taken, err := a.takenIDs(name)
	if err != nil {
		return nil, err
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	const slots = (idsEnd - idsFirst) / idsCount
	for i := range uint32(slots) {
		ids := record.IDs{First: idsFirst + (h.Sum32()+i)%slots*idsCount, Count: idsCount}
		if overlapping(ids, taken) == nil {
			return &ids, nil
		}
	}
	return nil, fmt.Errorf("all user IDs from %d to %d are taken", idsFirst, idsEnd-1)
}

// idUser is a range of IDs and whose it is.
type idUser struct {
	ids  record.IDs
	user string
}

func overlapping(ids record.IDs, taken []idUser) *idUser {
	for i := range taken {
		if taken[i].ids.Overlaps(ids) {
			return &taken[i]
		}
	}
	return nil
}

// checkIDs makes sure, under the host lock, that nobody was faster.
func (a *Agent) checkIDs(d *deployment) error {
	if d.rec.Atomic.IDs == nil {
		return nil
	}
	taken, err := a.takenIDs(d.name)
	if err != nil {
		return err
	}
	if u := overlapping(*d.rec.Atomic.IDs, taken); u != nil {
		return hint.New(fmt.Errorf("the user IDs from %d are those of %s", d.rec.Atomic.IDs.First, u.user),
			"they were given away meanwhile; try again")
	}
	return nil
}

// takenIDs lists the IDs that others than the named container have: containers,
// what is run without being installed, users and their ranges for rootless
// containers, and running systemd-nspawn machines.
func (a *Agent) takenIDs(except string) ([]idUser, error) {
	var taken []idUser
	names, err := a.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == except {
			continue
		}
		gens, err := a.generations(name)
		if err != nil {
			return nil, err
		}
		for _, gen := range gens {
			if d, err := a.load(name, gen); err == nil && d.rec.Atomic.IDs != nil {
				taken = append(taken, idUser{*d.rec.Atomic.IDs, "the container " + name})
			}
		}
	}
	once, _ := filepath.Glob(filepath.Join(a.host.Once("*"), "info")) // the pattern is good
	for _, info := range once {
		name := filepath.Base(filepath.Dir(info))
		if rec, err := record.ReadFile(info); err == nil && name != except && rec.Atomic.IDs != nil {
			taken = append(taken, idUser{*rec.Atomic.IDs, name + ", which runs once"})
		}
	}
	for file, fields := range map[string][2]int{
		"/etc/passwd": {2, -1}, "/etc/group": {2, -1}, "/etc/subuid": {1, 2}, "/etc/subgid": {1, 2},
	} {
		taken = append(taken, idsIn(a.host.Path(file), fields[0], fields[1])...)
	}
	machines, _ := filepath.Glob(a.host.Path("/run/systemd/nspawn-uid/*")) // the pattern is good
	for _, m := range machines {
		if first, err := strconv.ParseUint(filepath.Base(m), 10, 32); err == nil {
			taken = append(taken, idUser{record.IDs{First: uint32(first), Count: idsCount}, "a systemd-nspawn machine"})
		}
	}
	return taken, nil
}

// idsIn reads a file of lines of fields with colons between them. A file that
// is not there has none.
func idsIn(file string, first, count int) []idUser {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var list []idUser
	for line := range strings.Lines(string(content)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		ids := record.IDs{Count: 1}
		if len(f) <= max(first, count) {
			continue
		}
		n, err := strconv.ParseUint(f[first], 10, 32)
		if err != nil {
			continue
		}
		ids.First = uint32(n)
		if count >= 0 {
			if n, err = strconv.ParseUint(f[count], 10, 32); err != nil {
				continue
			}
			ids.Count = uint32(n)
		}
		list = append(list, idUser{ids, f[0] + " in " + file})
	}
	return list
}

// noUserNS says why this host cannot give a container a user namespace.
func noUserNS() string {
	if os.Geteuid() != 0 {
		return "only root can map IDs"
	}
	if err := mount.CheckIDs(mount.IDs{First: idsFirst, Count: idsCount}); err != nil {
		return err.Error()
	}
	return ""
}

// canIDMap says why the owners of files at a path, or of what will be made
// there, cannot be mapped.
func (a *Agent) canIDMap(path string) error {
	for path = a.host.Path(path); ; path = filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil || path == "/" {
			return mount.CanIDMap(path)
		}
	}
}

// unprivilegedPort is the first port that everybody may listen on.
func unprivilegedPort() int {
	n, _ := strconv.Atoi(strings.TrimSpace(content("/proc/sys/net/ipv4/ip_unprivileged_port_start")))
	return max(n, 1) // none is privileged if it is 0
}
