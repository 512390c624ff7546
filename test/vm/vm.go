// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/atomic-agent/atomic/test/bed"
	"github.com/atomic-agent/atomic/test/vm/disk"
)

// Options say what machine to boot. The zero value is a plain trixie.
type Options struct {
	// Suite is the Debian release; empty means trixie.
	Suite string
	// Layers are directories laid over the root file system when its disk is
	// made, the topmost first.
	Layers []string
	// Product installs atomic (`make install` of the repository, which must
	// have been built).
	Product bool
	// Registry is a directory with a registry's storage. If it is not empty, a
	// copy is served in the machine at bed.RegistryHost.
	Registry string
	// CPUs and Memory (in MiB) are 2 and 2048 if zero.
	CPUs, Memory int
	// Initrd leaves the agent as PID 1 on the mounted root file system: no
	// service manager, and booted in a third of the time.
	Initrd bool
	// Seed decides what a power cut leaves of the unflushed writes; zero lets
	// chance decide (see VM.Seed).
	Seed uint64
	// Log receives progress messages; nil discards them.
	Log io.Writer
}

func (o Options) withDefaults() Options {
	if o.Suite == "" {
		o.Suite = "trixie"
	}
	if o.CPUs == 0 {
		o.CPUs = 2
	}
	if o.Memory == 0 {
		o.Memory = 2048
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	return o
}

// VM is one virtual machine. Its methods may be called from several goroutines,
// but only one may change its power.
type VM struct {
	bed.Guest

	opts   Options
	accel  string
	img    *image
	dir    string // state directory
	free   func() // lets the next machine run
	disk   *disk.Disk
	random *rand.Rand // decides what a power cut leaves on the disk

	qemu, swtpm *process
	served      chan error // the disk's server has ended
	bootID      string

	mu   sync.Mutex
	conn *conn // nil while the machine is off
}

// Boot makes a machine with a disk and a TPM of its own, boots it and waits
// until its boot is complete, as systemd itself reports it. If another machine
// runs on this host it waits for its end. The caller must Close the machine.
func Boot(ctx context.Context, opts Options) (*VM, error) {
	opts = opts.withDefaults()
	if err := checkTools(); err != nil {
		return nil, err
	}
	dir, free, err := newState(ctx)
	if err != nil {
		return nil, err
	}
	v := &VM{opts: opts, dir: dir, free: free, random: rand.New(rand.NewPCG(opts.Seed, 0))}
	v.Guest = bed.NewGuest(v)
	if err := v.create(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make virtual machine: %w", err), v.Close())
	}
	if err := v.Start(ctx); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// create makes the disk and an empty TPM.
func (v *VM) create(ctx context.Context) error {
	img, err := buildImage(ctx, v.opts)
	if err != nil {
		return err
	}
	v.img = img
	if err := os.Mkdir(v.path("tpm"), 0o700); err != nil {
		return err
	}
	path := v.path("disk")
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", "--reflink=auto", img.disk, path).CombinedOutput(); err != nil {
		return fmt.Errorf("copy disk: %w\n%s", err, out)
	}
	if v.disk, err = disk.Open(path); err != nil {
		return err
	}
	v.accel = accelerator(ctx, img, v.opts.Log)
	return nil
}

func (v *VM) path(name string) string { return filepath.Join(v.dir, name) }

// Disk is the root disk, a bare ext4 file system. It may be read and changed
// behind the machine's back.
func (v *VM) Disk() *disk.Disk { return v.disk }

// Seed is what the random choices of power cuts come from.
func (v *VM) Seed() uint64 { return v.opts.Seed }

// Suite returns the Debian release that the machine runs.
func (v *VM) Suite() string { return v.opts.Suite }

// Accelerator returns how the machine is run: "kvm" or an emulation.
func (v *VM) Accelerator() string { return v.accel }

// BootID is the kernel's random id of the running boot.
func (v *VM) BootID() string { return v.bootID }

// Start boots a machine that is off.
func (v *VM) Start(ctx context.Context) error {
	if v.qemu != nil {
		return errors.New("start virtual machine: it is on")
	}
	if err := v.powerOn(); err != nil {
		return errors.Join(fmt.Errorf("start virtual machine: %w", err), v.powerOff())
	}
	if err := v.awaitBoot(ctx); err != nil {
		err = fmt.Errorf("boot virtual machine: %w\n%s", err, v.consoleTail())
		return errors.Join(err, v.powerOff())
	}
	return nil
}

func (v *VM) awaitBoot(ctx context.Context) error {
	select {
	case hello := <-v.current().hello:
		v.bootID = hello.BootID
	case <-v.qemu.done:
		return fmt.Errorf("qemu has ended: %w", exitError(v.qemu.err))
	case <-ctx.Done():
		return ctx.Err()
	}
	if v.opts.Initrd {
		return nil
	}
	switch state, err := v.WaitRunning(ctx); {
	case err != nil:
		return err
	case state != "running" && state != "degraded":
		return fmt.Errorf("systemd says %q", state)
	}
	return nil
}

// Reboot shuts the system down in order and boots it again from the same disk.
// The TPM is reset as by a real reboot.
func (v *VM) Reboot(ctx context.Context) error {
	if err := v.Shutdown(ctx); err != nil {
		return err
	}
	return v.Start(ctx)
}

// Shutdown powers the machine off in order and leaves it off.
func (v *VM) Shutdown(ctx context.Context) error {
	// The answer may be lost in the shutdown that it starts.
	if _, err := v.Run(ctx, "systemctl", "poweroff"); err != nil && !errors.Is(err, ErrDown) {
		return fmt.Errorf("shut down: %w", err)
	}
	if v.qemu == nil {
		return fmt.Errorf("shut down: %w", ErrDown)
	}
	select {
	case <-v.qemu.done:
	case <-ctx.Done():
		return fmt.Errorf("shut down: %w\n%s", ctx.Err(), v.consoleTail())
	}
	if v.qemu.err != nil {
		return errors.Join(fmt.Errorf("shut down: qemu has ended: %w", v.qemu.err), v.powerOff())
	}
	return v.powerOff()
}

// PowerCut takes the power away as Kill does and boots the machine again.
func (v *VM) PowerCut(ctx context.Context) error {
	if err := v.Kill(); err != nil {
		return err
	}
	return v.Start(ctx)
}

// Kill takes the power away at once, and with it an arbitrary part of what the
// guest has written to its disk but not flushed. The machine is left off.
func (v *VM) Kill() error { return v.powerOff() }

// Off reports whether the machine is off.
func (v *VM) Off() bool {
	if v.qemu == nil {
		return true
	}
	select {
	case <-v.qemu.done:
		return true
	default:
		return false
	}
}

func (v *VM) current() *conn {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.conn
}

// Console returns what the machine has said on its serial console in all boots.
func (v *VM) Console() string {
	b, err := os.ReadFile(v.path("console"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (v *VM) consoleTail() string {
	const tail = 4 << 10
	text := v.Console()
	return text[max(0, len(text)-tail):]
}

// Close ends the machine and removes all of it. It may be called twice.
func (v *VM) Close() error {
	if v.free == nil {
		return nil
	}
	err := v.powerOff()
	if v.disk != nil {
		err = errors.Join(err, v.disk.Close())
	}
	err = errors.Join(err, os.RemoveAll(v.dir))
	v.free()
	v.free = nil
	return err
}
