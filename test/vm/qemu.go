// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/atomic-agent/atomic/test/vm/wire"
)

const qemuProgram = "qemu-system-x86_64"

// kernelArgs: a panic ends the machine, a boot says only what went wrong, and
// a slow emulated timer is believed.
const kernelArgs = "console=ttyS0 quiet panic=-1 mitigations=off audit=0 no_timer_check"

// checkTools names what is missing before anything is built.
func checkTools() error {
	if os.Getuid() != 0 {
		return errors.New("a virtual machine's disk can be made by root only")
	}
	for _, name := range []string{qemuProgram, "swtpm", "mke2fs"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w (test/prepare.sh --vm installs it)", err)
		}
	}
	return nil
}

// powerOn starts the TPM and the machine.
func (v *VM) powerOn() error {
	tpmEnd, qemuTPM, err := socketPair()
	if err != nil {
		return err
	}
	defer tpmEnd.Close()
	defer qemuTPM.Close()
	swtpm := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+v.path("tpm"), //nolint:noctx // it lives as long as the machine, not as the call
		"--ctrl", "type=unixio,clientfd=3", "--log", "level=1,file="+v.path("swtpm.log"))
	swtpm.ExtraFiles = []*os.File{tpmEnd}
	if v.swtpm, err = startProcess(swtpm); err != nil {
		return err
	}
	ours, qemuAgent, err := socketPair()
	if err != nil {
		return err
	}
	defer qemuAgent.Close()
	v.mu.Lock()
	v.conn = newConn(ours)
	v.mu.Unlock()
	diskEnd, qemuDisk, err := socketPair()
	if err != nil {
		return err
	}
	defer qemuDisk.Close()
	v.served = make(chan error, 1)
	go func() {
		v.served <- v.disk.Serve(diskEnd)
		diskEnd.Close()
	}()
	console, err := os.OpenFile(v.path("console"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer console.Close()
	qemu := exec.Command(qemuProgram, v.qemuArgs()...) //nolint:noctx // as above
	qemu.ExtraFiles = []*os.File{qemuAgent, qemuTPM, qemuDisk}
	qemu.Stdout, qemu.Stderr = console, console
	v.qemu, err = startProcess(qemu)
	return err
}

// powerOff ends the processes of a running machine, if any, and lets its disk
// forget.
func (v *VM) powerOff() error {
	if v.qemu != nil {
		v.qemu.kill()
		v.qemu = nil
	}
	if v.swtpm != nil {
		v.swtpm.kill()
		v.swtpm = nil
	}
	v.mu.Lock()
	if v.conn != nil {
		v.conn.close()
		v.conn = nil
	}
	v.mu.Unlock()
	if v.served == nil {
		return nil
	}
	err := <-v.served // QEMU's end of the socket is closed
	v.served = nil
	_, _, cutErr := v.disk.Cut(v.random)
	return errors.Join(err, cutErr)
}

func (v *VM) qemuArgs() []string {
	cmdline := kernelArgs
	if v.opts.Initrd {
		cmdline += " vm.initrd"
	}
	return append(machineArgs(v.accel),
		"-smp", strconv.Itoa(v.opts.CPUs), "-m", strconv.Itoa(v.opts.Memory),
		"-kernel", v.img.kernel, "-initrd", v.img.initrd, "-append", cmdline,
		"-blockdev", "driver=nbd,node-name=root,server.type=fd,server.str=5",
		"-device", "virtio-blk-pci,drive=root,num-queues=1",
		"-device", "virtio-rng-pci",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,fd=3",
		"-device", "virtserialport,chardev=agent,name="+wire.PortName,
		"-chardev", "socket,id=tpm,fd=4",
		"-tpmdev", "emulator,id=tpm,chardev=tpm",
		"-device", "tpm-tis,tpmdev=tpm",
	)
}

// machineArgs describe the board: q35 with everything left out that Linux
// would spend time on.
func machineArgs(accel string) []string {
	return []string{
		"-machine", "q35,sata=off,smbus=off,usb=off,i8042=off,hpet=off,vmport=off",
		"-accel", accel, "-cpu", "max,-svm,-vmx",
		"-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
	}
}

const tcg = "tcg,thread=multi"

// accelerator says how the machine is run. A /dev/kvm that is there may still
// not be able to run a stock kernel, so it has to show it: boot the initial RAM
// disk, which without a root disk gives up and ends the machine.
func accelerator(ctx context.Context, img *image, log io.Writer) string {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return tcg
	}
	f.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	args := append(machineArgs("kvm"), "-m", "512", "-kernel", img.kernel, "-initrd", img.initrd, "-append", kernelArgs)
	out, err := exec.CommandContext(ctx, qemuProgram, args...).CombinedOutput()
	if err == nil && strings.Contains(string(out), "vm-agent:") {
		return "kvm"
	}
	fmt.Fprintln(log, "vm: /dev/kvm does not work here, emulating")
	return tcg
}
