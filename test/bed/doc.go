// SPDX-License-Identifier: Apache-2.0

// Package bed boots real Debian systems for tests: systemd as PID 1, its own
// D-Bus, journald, logind and machined, in about two seconds and with nothing
// but root.
//
// A bed is a Debian root file system (built once per suite with mmdebstrap and
// cached) under an overlay, booted by its own systemd in fresh pid, mount,
// network, uts, ipc and cgroup namespaces. It is not a mock: only the kernel is
// shared with the machine it runs on. What the kernel does not namespace is
// either read-only in the bed (/sys, /proc/sys except net) or left out
// (/dev/kmsg, the cgroup v1 hierarchies).
//
//	b, err := bed.Boot(ctx, bed.Options{Suite: "trixie"})
//	defer b.Close()
//	out, err := b.Run(ctx, bed.Cmd("systemctl", "is-system-running"))
//	err = b.Reboot(ctx)   // orderly; the disk is kept, /run is not
//	err = b.PowerCut(ctx) // every process killed at once, then booted again
//
// # What a bed is not
//
// A power cut kills processes, it does not drop the page cache: for lost writes
// use the virtual machine (test/vm). On a machine with cgroup v1 hierarchies
// the bed has no resource controllers. There are no kernel modules, no security
// modules and no /dev/tpmrm0 (Options.TPM gives it a software TPM's socket).
//
// # Nothing stays behind
//
// Every process of a bed dies with the thread that booted it
// (PR_SET_PDEATHSIG on the namespace's init), and with the processes go the
// mounts and the network. Directories, cgroups and loop devices are removed by
// Close, or, when the booting process was killed, by the next Boot or by
// `bed gc`: each bed holds a lock on its state directory for as long as it
// lives, and whatever is not locked is swept.
//
// # On disk
//
//	$ATOMIC_TEST_CACHE (default ~/.cache/atomic-test)
//	  rootfs/SUITE-VARIANT-HASH/   unpacked root file systems, read-only by convention
//	  pki/                         the test registry's authority and certificate
//	  beds/NAME/                   state of one living bed
//	    lock                       held (flock) while the bed lives
//	    upper/ work/               what the bed wrote over its rootfs
//	    containers/                its /var/lib/containers, a plain directory
//	    console.log                PID 1's console over all boots
package bed
