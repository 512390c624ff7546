// SPDX-License-Identifier: Apache-2.0

// Package vm boots real Debian systems in virtual machines for tests: what a
// bed (package bed) gives, plus a kernel of their own. That means resource
// controllers, fs-verity, a TPM behind /dev/tpmrm0, kernel modules, and power
// cuts that lose writes. The methods are those of a bed.
//
//	v, err := vm.Boot(ctx, vm.Options{})
//	defer v.Close()
//	res, err := v.Run(ctx, "systemctl", "is-system-running")
//	err = v.Reboot(ctx)   // orderly; disk and TPM are kept, registers are reset
//	err = v.PowerCut(ctx) // unflushed writes are lost, then booted again
//
// # How it works
//
// QEMU runs Debian's own kernel; KVM is used where it works, software emulation
// elsewhere. The disk is made from a bed's root file system plus a kernel with
// mke2fs (ext4 with fs-verity), cached by content. An initial RAM disk of our
// own, one static program and one module, keeps the boot short. The same
// program is the agent (test/vm/agent) that runs commands inside; it talks over
// a virtio-serial port (test/vm/wire). The TPM is swtpm. The disk is served to
// QEMU by this process (test/vm/disk), which decides at a power cut which of
// the unflushed writes have reached it.
//
// # Nothing stays behind
//
// QEMU and swtpm are tied to this process and die with it, all lines to them
// are socket pairs, and the state directory is removed by Close, or by the next
// machine if this process was killed. Machines run one at a time, also across
// processes.
//
// # On disk
//
//	$ATOMIC_TEST_CACHE (default ~/.cache/atomic-test)
//	  rootfs/SUITE-vm-HASH/   unpacked root file systems, see package bed
//	  vm/image-SUITE-HASH/    the last few disk images, never written to
//	  vm/run-*/               state of the living machine
//	    disk                  its disk, as far as flushed
//	    tpm/                  the TPM's non-volatile state
//	    console               the serial console over all boots
//	  vm/lock                 held (flock) by whoever runs a machine
package vm
