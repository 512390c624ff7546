// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// realtimeDone marks a process that has tried to become a real-time one.
const realtimeDone = "ATOMIC_BENCH_REALTIME"

// realtime executes the program again with real-time priority, which the bed
// inherits: what else runs on the machine then hardly counts. Where that is
// not allowed the program goes on, and says so.
func realtime() (bool, error) {
	if state, ok := os.LookupEnv(realtimeDone); ok {
		return state == "yes", os.Unsetenv(realtimeDone)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	state := "yes"
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}
	if err := unix.SchedSetAttr(0, attr, 0); err != nil {
		state = "no"
	}
	return false, unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), realtimeDone+"="+state))
}
