// SPDX-License-Identifier: Apache-2.0

// Package twin splits `atomic-launch start NAME` into two processes before the
// Go runtime boots.
//
// systemd supervises a container as its own child only if the container's
// init has no living parent but PID 1 when systemd learns its PID. libcontainer
// makes init a child of whoever calls it, so the caller has to be gone by
// then. Therefore the process that systemd started (the launcher) forks once;
// the other half (the creator) makes the container, hands a pidfd of init to
// the launcher and exits, and only then the launcher tells systemd. Forking in
// a constructor costs a tenth of a millisecond; starting a second program
// would cost several. A creator dies with its launcher.
//
// Importing the package is all it takes; processes with other arguments are
// left alone.
package twin

/*
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int   atomic_twin_fd = -1;
static pid_t atomic_twin_creator = -1;

__attribute__((constructor)) static void atomic_twin(int argc, char **argv) {
	int sv[2];
	pid_t launcher = getpid();

	if (argc != 3 || strcmp(argv[1], "start") != 0)
		return;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0 ||
	    (atomic_twin_creator = fork()) < 0) {
		perror("atomic: error: split the launcher");
		exit(1);
	}
	if (atomic_twin_creator > 0) {
		atomic_twin_fd = sv[0];
		close(sv[1]);
		return;
	}
	atomic_twin_fd = sv[1];
	close(sv[0]);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != launcher)
		_exit(1);
}

static int   twin_fd(void) { return atomic_twin_fd; }
static pid_t twin_creator(void) { return atomic_twin_creator; }
*/
import "C"

import "os"

// Socket is this half's end of the socket pair that joins the two; nil in a
// process that was not split. It may be called once.
func Socket() *os.File {
	fd := int(C.twin_fd())
	if fd < 0 {
		return nil
	}
	return os.NewFile(uintptr(fd), "twin")
}

// Creator is the PID of the creator in the launcher, 0 in the creator, and -1
// in a process that was not split.
func Creator() int { return int(C.twin_creator()) }
