// SPDX-License-Identifier: Apache-2.0

package unitgen

import (
	"slices"

	"github.com/moby/profiles/seccomp"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
)

// denySyscalls is a filter that allows everything but the named system calls.
func denySyscalls(names ...string) *rspec.LinuxSeccomp {
	errno := uint(1) // EPERM
	return &rspec.LinuxSeccomp{
		DefaultAction: rspec.ActAllow,
		Syscalls:      []rspec.LinuxSyscall{{Names: names, Action: rspec.ActErrno, ErrnoRet: &errno}},
	}
}

// defaultSeccomp is the filter of a container whose image brings no
// configuration of its own: Docker's default profile, the allow-list that
// images are made and tested with. It is for the native architecture, the only
// one whose system calls a filter without a list of architectures lets through.
// arch is GOARCH; caps are the capabilities that the payload can ever have.
func defaultSeccomp(arch string, caps []string) *rspec.LinuxSeccomp {
	profile := seccomp.DefaultProfile()
	filter := &rspec.LinuxSeccomp{DefaultAction: profile.DefaultAction, DefaultErrnoRet: profile.DefaultErrnoRet}
	if arch == "386" {
		arch = "x86" // by libseccomp's name
	}
	for _, call := range profile.Syscalls {
		if applies(call, arch, caps) {
			filter.Syscalls = append(filter.Syscalls, call.LinuxSyscall)
		}
	}
	return filter
}

// applies evaluates the conditions of a rule. Those about the kernel's version
// are true of every kernel that atomic runs on.
func applies(call *seccomp.Syscall, arch string, caps []string) bool {
	has := func(c string) bool { return slices.Contains(caps, c) }
	if e := call.Excludes; e != nil && (slices.Contains(e.Arches, arch) || slices.ContainsFunc(e.Caps, has)) {
		return false
	}
	i := call.Includes
	if i == nil {
		return true
	}
	if len(i.Arches) > 0 && !slices.Contains(i.Arches, arch) {
		return false
	}
	return !slices.ContainsFunc(i.Caps, func(c string) bool { return !has(c) })
}
