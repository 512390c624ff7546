// SPDX-License-Identifier: Apache-2.0

package login

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is who connected, as the kernel knows.
type Peer struct {
	PID int
	UID uint32
	// Cgroup is the ID of the peer's cgroup, 0 if this kernel does not tell.
	// machined connects in a child that is gone when it is asked for; kernels
	// from 6.16 on remember its cgroup.
	Cgroup uint64
}

// PeerOf asks the kernel about the other end.
func PeerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("identify peer: %w", err)
	}
	var p Peer
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		p.PID, p.UID = int(cred.Pid), cred.Uid
		if pidfd, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			p.Cgroup = cgroupOf(pidfd)
			_ = unix.Close(pidfd)
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return p, fmt.Errorf("identify peer: %w", err)
	}
	return p, nil
}

// pidfdInfo is struct pidfd_info of <linux/pidfd.h> in its first version.
type pidfdInfo struct {
	mask     uint64
	cgroupID uint64
	_        [12]uint32
}

const (
	pidfdGetInfo    = 0xC040FF0B // _IOWR(0xFF, 11, struct pidfd_info)
	pidfdInfoCgroup = 1 << 2
	pidfdInfoExit   = 1 << 3 // also of a process that is gone
)

func cgroupOf(pidfd int) uint64 {
	info := pidfdInfo{mask: pidfdInfoCgroup | pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 || info.mask&pidfdInfoCgroup == 0 {
		return 0
	}
	return info.cgroupID
}

// Expected is who a peer may be.
type Expected struct {
	// Root is the UID on the host of the container's uid 0: machined connects
	// as that where the container has a user namespace.
	Root uint32
	// Machined is the ID of machined's cgroup, 0 if it could not be found.
	Machined uint64
	// Payload is the path of the payload's cgroup, below CgroupRoot.
	Payload string
}

// CgroupRoot is where systemd mounts the unified hierarchy.
const CgroupRoot = "/sys/fs/cgroup"

// CgroupID returns the ID of a cgroup, which is the number of its inode, or 0.
func CgroupID(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// CheckCgroup refuses a peer of which the kernel says that it is not machined,
// which needs no look at the container.
func (p Peer) CheckCgroup(machined uint64) error {
	if p.Cgroup != 0 && machined != 0 && p.Cgroup != machined {
		return fmt.Errorf("peer is in cgroup %d and is not systemd-machined", p.Cgroup)
	}
	return nil
}

// Check refuses a peer that is not machined. Where the kernel does not tell a
// peer's cgroup, nor machined's can be found, that is a peer without the right
// UID or one that is a process of the container; another process of uid 0
// passes, and gets nothing that the payload does not have.
func (p Peer) Check(want Expected) error {
	switch {
	case p.UID != 0 && p.UID != want.Root:
		return fmt.Errorf("peer has uid %d and is not systemd-machined", p.UID)
	case p.Cgroup != 0 && want.Machined != 0:
		return p.CheckCgroup(want.Machined)
	case want.Payload != "" && within(liveCgroup(p.PID), want.Payload):
		return fmt.Errorf("peer %d is a process of the container", p.PID)
	}
	return nil
}

// liveCgroup returns the cgroup of a process that lives, or "".
func liveCgroup(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "0::"); ok {
			return filepath.Join(CgroupRoot, path)
		}
	}
	return ""
}

func within(path, dir string) bool {
	return path != "" && (path == dir || strings.HasPrefix(path, dir+"/"))
}
