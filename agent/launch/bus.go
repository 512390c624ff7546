// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package launch

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/atomic-agent/atomic/machined"
	"github.com/atomic-agent/atomic/machined/login"
)

// busTimeout bounds one connection of machined, as all of it waits meanwhile;
// controlTimeout one of machinectl, which waits for the unit to freeze or thaw.
const (
	busTimeout     = time.Second
	controlTimeout = 8 * time.Second
)

// machinedCgroup is where systemd runs machined.
const machinedCgroup = login.CgroupRoot + "/system.slice/systemd-machined.service"

// ServeBus answers one connection to a container's login bus, whose peer is
// machined or is hung up on, or to its control socket, which only root of the
// host can reach.
func (l Launcher) ServeBus(ctx context.Context, name string, conn *net.UnixConn) error {
	peer, err := login.PeerOf(conn)
	if err != nil {
		return err
	}
	if conn.LocalAddr().String() == l.Host.Control(name) {
		if peer.UID != 0 {
			return fmt.Errorf("refuse control of container %q: peer has uid %d", name, peer.UID)
		}
		ctx, cancel := context.WithTimeout(ctx, controlTimeout)
		defer cancel()
		d, err := open(l.Host, name)
		if err != nil {
			return err
		}
		return machined.ServeControl(ctx, conn, d.rec.Atomic.Start.Unit)
	}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	j, err := l.join(name)
	if err != nil {
		return err
	}
	defer j.close()
	want := login.Expected{Root: j.hostRoot(), Machined: login.CgroupID(machinedCgroup), Payload: j.cgroup}
	if err := peer.Check(want); err != nil {
		return fmt.Errorf("refuse session in container %q: %w", name, err)
	}
	return login.Serve(ctx, conn, sessions{j, name})
}

// hostRoot is the UID on the host of the container's uid 0.
func (j *joined) hostRoot() uint32 {
	cfg := j.container.Config()
	uid, err := cfg.HostRootUID()
	if err != nil {
		return 0
	}
	return uint32(uid)
}
