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
	// The payload may call as often as it likes: it is hung up on at little cost.
	machinedID := login.CgroupID(machinedCgroup)
	if err := peer.CheckCgroup(machinedID); err != nil {
		return refused(name, err)
	}
	j, err := l.join(name)
	if err != nil {
		return err
	}
	defer j.close()
	if err := peer.Check(login.Expected{Root: j.hostRoot(), Machined: machinedID, Payload: j.cgroup}); err != nil {
		return refused(name, err)
	}
	s := &sessions{joined: j, name: name, log: l.Log}
	if err := login.Serve(ctx, conn, s); err != nil {
		return err
	}
	// Hung up, so that machined does not wait for what remains.
	if err := conn.Close(); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), controlTimeout)
	defer cancel()
	return s.here.watch(ctx, name)
}

func refused(name string, err error) error {
	return fmt.Errorf("refuse session in container %q: %w", name, err)
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
