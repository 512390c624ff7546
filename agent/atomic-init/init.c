// SPDX-License-Identifier: Apache-2.0

/*
 * Atomic-init is the process 1 of a container that was installed with
 * --init=yes: it starts the payload, passes signals on to it, reaps the orphans
 * that it leaves, and ends as it ends. Unlike a payload that is process 1
 * itself, one below it dies of signals that it does not handle.
 *
 * It is written in C because every such container has one for as long as it
 * runs: it needs two dozen pages.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* mine corrects a variable by which systemd's protocols name the payload. */
static void mine(const char *name)
{
	const char *v = getenv(name);
	char pid[16];

	if (!v || strcmp(v, "1") != 0)
		return;
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	setenv(name, pid, 1);
}

int main(int argc, char **argv)
{
	sigset_t all, before;
	pid_t payload;

	if (argc < 2) {
		fprintf(stderr, "usage: atomic-init COMMAND [ARGUMENT...]\n");
		return 2;
	}
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	if (getpid() != 1)
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	payload = fork();
	if (payload < 0) {
		perror("atomic: error: start the payload");
		return 1;
	}
	if (payload == 0) {
		mine("LISTEN_PID");
		mine("WATCHDOG_PID");
		sigprocmask(SIG_SETMASK, &before, NULL);
		execvp(argv[1], argv + 1);
		fprintf(stderr, "atomic: error: execute %s: %s\n", argv[1], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	close_range(3, ~0U, 0); /* the payload's sockets are not ours to keep open */
	for (;;) {
		int status, sig = sigwaitinfo(&all, NULL);
		pid_t pid;

		if (sig < 0)
			continue;
		if (sig != SIGCHLD) {
			kill(payload, sig);
			continue;
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid != payload)
				continue;
			/* With process 1 gone the kernel ends whoever is left. */
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
	}
}
