// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"strings"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// hazardousSyscalls administer the host, reach other processes or open large
// parts of the kernel to attack; no service that is not itself an
// administration tool calls them.
var hazardousSyscalls = strings.Fields(`
	_sysctl acct add_key adjtimex afs_syscall bpf clock_adjtime clock_adjtime64 clock_settime clock_settime64
	create_module delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick get_kernel_syms
	init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl
	lookup_dcookie lsm_set_self_attr mount mount_setattr move_mount nfsservctl open_by_handle_at open_tree
	open_tree_attr perf_event_open pivot_root process_vm_readv process_vm_writev query_module quotactl quotactl_fd
	reboot request_key setns settimeofday stime swapoff swapon sysfs syslog umount umount2 unshare uselib
	userfaultfd ustat vhangup vm86 vm86old`)

// cloneNewUser is CLONE_NEWUSER: the one namespace that needs no capability,
// and that gives every other.
const cloneNewUser = 0x10000000

// denySyscalls is a filter that allows everything but the named system calls.
func denySyscalls(names ...string) *rspec.LinuxSeccomp {
	return &rspec.LinuxSeccomp{
		DefaultAction: rspec.ActAllow,
		Syscalls:      []rspec.LinuxSyscall{refuse(1, names...)}, // EPERM
	}
}

func refuse(errno uint, names ...string) rspec.LinuxSyscall {
	return rspec.LinuxSyscall{Names: names, Action: rspec.ActErrno, ErrnoRet: &errno}
}

// defaultSeccomp is the filter of a container whose image brings no
// configuration of its own. It is for the native architecture, the only one
// whose system calls a filter without a list of architectures lets through.
func defaultSeccomp(arch string) *rspec.LinuxSeccomp {
	filter := denySyscalls(hazardousSyscalls...)
	flags := uint(0)
	if arch == "s390x" {
		flags = 1 // clone's first two arguments are swapped there
	}
	clone := refuse(1, "clone")
	clone.Args = []rspec.LinuxSeccompArg{{Index: flags, Value: cloneNewUser, ValueTwo: cloneNewUser, Op: rspec.OpMaskedEqual}}
	// clone3's flags are in memory, where a filter cannot see them. ENOSYS
	// makes the C library use clone.
	filter.Syscalls = append(filter.Syscalls, clone, refuse(38, "clone3"))
	return filter
}
