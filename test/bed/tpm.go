// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/atomic-agent/atomic/internal/hint"
)

// TPMSocket is the data socket of the software TPM in a bed that has one.
const TPMSocket = "/var/lib/bed/tpm/data"

// tpm is a running swtpm(8).
type tpm struct {
	stop context.CancelFunc
	done chan struct{}
}

func (b *Bed) prepareTPM() error {
	for _, dir := range []string{"tpm/state", "tpm/socket"} {
		if err := os.MkdirAll(b.path(dir), 0o700); err != nil {
			return err
		}
	}
	// The directory is bound, not the socket: each boot has a new socket.
	b.bind(b.path("tpm/socket"), "/var/lib/bed/tpm")
	return b.writeUpper("etc/atomic/atomic.conf.d/50-bed.conf", 0o644, "[TPM]\nDevice=unix:"+TPMSocket+"\n")
}

// startTPM resets the software TPM, as power-on does, keeping its storage.
func (b *Bed) startTPM(ctx context.Context) error {
	if !b.opts.TPM {
		return nil
	}
	b.stopTPM()
	socket := b.path("tpm/socket/data")
	// One that was killed leaves its socket, at which nobody answers.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	log, err := os.OpenFile(b.path("tpm/log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(life, "swtpm", "socket", "--tpm2",
		"--tpmstate", "dir="+b.path("tpm/state"),
		"--server", "type=unixio,path=data",
		"--ctrl", "type=unixio,path=data.ctrl", // tpm2-tools want it
		"--flags", "not-need-init,startup-clear")
	cmd.Dir = filepath.Dir(socket) // a socket's name has at most 107 bytes
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = tiedAttr()
	t := &tpm{stop: stop, done: make(chan struct{})}
	if err := startTied(cmd, func() { close(t.done) }); err != nil {
		stop()
		return hint.New(fmt.Errorf("start software TPM: %w", err), "test/prepare.sh installs swtpm")
	}
	b.tpm = t
	return waitSocket(ctx, socket, t.done)
}

func (b *Bed) stopTPM() {
	if b.tpm != nil {
		b.tpm.stop()
		<-b.tpm.done
		b.tpm = nil
	}
}

// waitSocket waits until a server that has no way to say so listens at path.
func waitSocket(ctx context.Context, path string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("software TPM ended before it listened at %s", path)
		case <-ctx.Done():
			return fmt.Errorf("wait for software TPM at %s: %w", path, ctx.Err())
		case <-tick.C:
		}
	}
}
