// SPDX-License-Identifier: Apache-2.0

/*
 * Probe is the payload of the differential test: it prints everything that a
 * container runtime decides about a process, one "key TAB value" a line. It is
 * written in C because a Go program changes its own limits, signals and
 * threads before main runs.
 *
 * Each argument asks for something more:
 *   read:PATH      the first line of a file
 *   write:PATH     whether a file can be opened for writing
 *   make:PATH      whether a file can be made there
 *   list:DIR       the names in a directory
 *   stat:PATH      type, mode, owner and device number
 *   exec:PATH      whether execve(2) works
 *   fail:CODE      end with this code
 *   kill:SIGNAL    end by this signal
 *   syscalls       what happens to every system call, made with nonsense
 *   int80:NUMBER   the same for one system call of the 32-bit ABI
 *   mounts         whether the usual escapes by mount(2) are refused
 *   stdin          what standard input says
 *
 * As "probe swap A B" it exchanges two names for as long as it lives, for races.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void value(const char *key, const char *v) { printf("%s\t%s\n", key, v); }

static void number(const char *key, long v) { printf("%s\t%ld\n", key, v); }

/* errname keeps the output readable and independent of the C library. */
static const char *errname(int e)
{
	static char buf[32];
	const char *n = e == 0 ? "ok" : strerrorname_np(e);

	if (n)
		return n;
	snprintf(buf, sizeof buf, "errno %d", e);
	return buf;
}

static void lines(const char *key, const char *path)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	FILE *f = fopen(path, "re");

	if (!f) {
		value(key, errname(errno));
		return;
	}
	while ((n = getline(&line, &size, f)) >= 0) {
		if (n > 0 && line[n - 1] == '\n')
			line[n - 1] = 0;
		value(key, line);
	}
	if (ferror(f))
		value(key, errname(errno));
	free(line);
	fclose(f);
}

static void raw(const char *key, const char *path)
{
	char buf[4096];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		value(key, errname(errno));
		return;
	}
	n = read(fd, buf, sizeof buf - 1);
	if (n < 0) {
		value(key, errname(errno));
	} else {
		buf[n] = 0;
		buf[strcspn(buf, "\n")] = 0;
		value(key, buf);
	}
	close(fd);
}

static void status(void)
{
	static const char *want[] = {
		"Umask", "PPid", "Uid", "Gid", "Groups", "NStgid", "NSpid", "NSpgid", "NSsid", "Kthread", "Threads",
		"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
		"NoNewPrivs", "Seccomp", "Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch",
		"Cpus_allowed_list", "Mems_allowed_list", "THP_enabled", "CoreDumping", "TracerPid", "Name",
	};
	char line[1024], key[1100];
	FILE *f = fopen("/proc/self/status", "re");

	if (!f) {
		value("status", errname(errno));
		return;
	}
	while (fgets(line, sizeof line, f)) {
		char *v = strchr(line, ':');
		if (!v)
			continue;
		*v++ = 0;
		v += strspn(v, "\t ");
		v[strcspn(v, "\n")] = 0;
		for (size_t i = 0; i < sizeof want / sizeof *want; i++)
			if (strcmp(line, want[i]) == 0) {
				snprintf(key, sizeof key, "status.%s", line);
				value(key, v);
			}
	}
	fclose(f);
}

static void namespaces(void)
{
	static const char *ns[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
	char path[64], key[64], buf[128];

	for (size_t i = 0; i < sizeof ns / sizeof *ns; i++) {
		ssize_t n;
		snprintf(path, sizeof path, "/proc/self/ns/%s", ns[i]);
		snprintf(key, sizeof key, "ns.%s", ns[i]);
		n = readlink(path, buf, sizeof buf - 1);
		buf[n < 0 ? 0 : n] = 0;
		value(key, n < 0 ? errname(errno) : buf);
	}
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int no_dots(const struct dirent *d) { return strcmp(d->d_name, ".") && strcmp(d->d_name, ".."); }

static void fds(void)
{
	struct dirent **names;
	int n = scandir("/proc/self/fd", &names, no_dots, by_name);

	for (int i = 0; i < n; i++) {
		char path[300], key[300], buf[512], full[600];
		int flags = fcntl(atoi(names[i]->d_name), F_GETFL);
		ssize_t l;

		snprintf(path, sizeof path, "/proc/self/fd/%s", names[i]->d_name);
		l = readlink(path, buf, sizeof buf - 1);
		if (l < 0) /* the directory itself */
			continue;
		buf[l] = 0;
		snprintf(key, sizeof key, "fd.%s", names[i]->d_name);
		snprintf(full, sizeof full, "%s mode %d", buf, flags & O_ACCMODE);
		value(key, full);
	}
}

static void describe(const char *key, const char *path)
{
	struct stat st;
	char buf[512], target[256] = "";
	const char *type = "?";

	if (lstat(path, &st) < 0) {
		value(key, errname(errno));
		return;
	}
	switch (st.st_mode & S_IFMT) {
	case S_IFREG: type = "file"; break;
	case S_IFDIR: type = "dir"; break;
	case S_IFLNK: type = "link"; break;
	case S_IFCHR: type = "char"; break;
	case S_IFBLK: type = "block"; break;
	case S_IFIFO: type = "fifo"; break;
	case S_IFSOCK: type = "socket"; break;
	}
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(path, target, sizeof target - 1);
		target[n < 0 ? 0 : n] = 0;
		snprintf(buf, sizeof buf, "link to %s", target);
	} else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
		int r = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), re = r < 0 ? errno : 0;
		int w = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), we = w < 0 ? errno : 0;
		snprintf(buf, sizeof buf, "%s %04o %u:%u device %u:%u read ", type, st.st_mode & 07777, st.st_uid, st.st_gid,
			 major(st.st_rdev), minor(st.st_rdev));
		strcat(buf, errname(re));
		strcat(buf, " write ");
		strcat(buf, errname(we));
		if (r >= 0)
			close(r);
		if (w >= 0)
			close(w);
	} else {
		snprintf(buf, sizeof buf, "%s %04o %u:%u", type, st.st_mode & 07777, st.st_uid, st.st_gid);
	}
	value(key, buf);
}

static void devices(const char *dir)
{
	struct dirent **names;
	int n = scandir(dir, &names, no_dots, by_name);

	for (int i = 0; i < n; i++) {
		char path[600], key[700];
		snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
		snprintf(key, sizeof key, "dev.%s", path + strlen("/dev/"));
		describe(key, path);
	}
}

static void scheduler(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
		uint32_t util_min, util_max;
	} a = {.size = sizeof a};
	char buf[256];

	if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) < 0) {
		value("scheduler", errname(errno));
		return;
	}
	if (a.policy != 6)
		a.runtime = a.deadline = a.period = 0; /* the slice of the fair scheduler is the kernel's */
	snprintf(buf, sizeof buf, "policy %u flags %llu nice %d priority %u runtime %llu deadline %llu period %llu util %u-%u",
		 a.policy, (unsigned long long)a.flags, a.nice, a.priority, (unsigned long long)a.runtime,
		 (unsigned long long)a.deadline, (unsigned long long)a.period, a.util_min, a.util_max);
	value("scheduler", buf);
}

static void keyring(void)
{
	char buf[256];
	long n = syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, buf, sizeof buf - 1);

	if (n < 0) {
		value("keyring", errname(errno));
		return;
	}
	buf[sizeof buf - 1] = 0;
	value("keyring", buf);
}

static void process(char **argv, char **envp)
{
	struct utsname u;
	gid_t groups[64];
	char buf[4096], key[64];
	int n;

	for (int i = 0; argv[i]; i++) {
		snprintf(key, sizeof key, "arg.%02d", i);
		value(key, argv[i]);
	}
	for (int i = 0; envp[i]; i++)
		value("env", envp[i]);
	value("cwd", getcwd(buf, sizeof buf) ? buf : errname(errno));
	uname(&u);
	value("hostname", u.nodename);
	value("domainname", u.domainname);
	value("machine", u.machine);
	number("pid", getpid());
	number("ppid", getppid());
	number("sid", getsid(0));
	number("pgrp", getpgrp());
	n = getgroups(64, groups);
	buf[0] = 0;
	for (int i = 0; i < n; i++)
		sprintf(buf + strlen(buf), "%u ", groups[i]);
	value("groups", buf);
	number("personality", personality(0xffffffff));
	scheduler();
	number("ioprio", syscall(SYS_ioprio_get, 1, 0));
	number("prctl.dumpable", prctl(PR_GET_DUMPABLE));
	n = -1;
	prctl(PR_GET_PDEATHSIG, &n);
	number("prctl.pdeathsig", n);
	n = -1;
	prctl(PR_GET_CHILD_SUBREAPER, &n);
	number("prctl.subreaper", n);
	number("prctl.securebits", prctl(PR_GET_SECUREBITS));
	number("prctl.keepcaps", prctl(PR_GET_KEEPCAPS));
	number("prctl.timerslack", prctl(PR_GET_TIMERSLACK));
	number("prctl.mdwe", prctl(65 + 1, 0, 0, 0, 0));
	number("tty", open("/dev/tty", O_RDWR | O_CLOEXEC) >= 0);
	keyring();
}

/* Those that never return, end the process, make others, or stop the machine. */
static int skipped(long nr)
{
	switch (nr) {
	case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_restart_syscall: case SYS_pause:
	case SYS_fork: case SYS_vfork: case SYS_sync: case SYS_vhangup: case SYS_reboot: case SYS_sched_yield:
		return 1;
	}
	return 0;
}

static void verdict(const char *key, long nr, int abi32)
{
	char buf[64];
	int st;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		long r;
		alarm(2);
		if (abi32) {
#ifdef __x86_64__
			__asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(-1), "c"(-1), "d"(-1), "S"(-1), "D"(-1) : "memory", "r8", "r9", "r10", "r11");
			if (r < 0 && r > -4096) {
				errno = -(int)r;
				r = -1;
			}
#else
			r = -1;
			errno = ENOSYS;
#endif
		} else {
			r = syscall(nr, -1L, -1L, -1L, -1L, -1L, -1L);
		}
		_exit(r == -1 ? errno & 0xff : 0);
	}
	if (pid < 0) {
		value(key, errname(errno));
		return;
	}
	if (waitpid(pid, &st, 0) < 0)
		snprintf(buf, sizeof buf, "lost");
	else if (WIFSIGNALED(st))
		snprintf(buf, sizeof buf, "signal %d", WTERMSIG(st));
	else
		snprintf(buf, sizeof buf, "%s", errname(WEXITSTATUS(st)));
	value(key, buf);
}

static void mounts(void)
{
	struct {
		const char *key, *source, *target, *type;
		unsigned long flags;
	} tries[] = {
		{"mount.tmpfs", "none", "/tmp", "tmpfs", 0},
		{"mount.proc", "none", "/tmp", "proc", 0},
		{"mount.remount", "none", "/proc/sys", NULL, MS_REMOUNT | MS_BIND},
		{"mount.bind", "/proc", "/tmp", NULL, MS_BIND},
	};

	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++)
		value(tries[i].key, errname(mount(tries[i].source, tries[i].target, tries[i].type, tries[i].flags, NULL) < 0 ? errno : 0));
	value("mount.umount", errname(umount2("/proc/sys", MNT_DETACH) < 0 ? errno : 0));
}

static int ask(char *arg)
{
	char *path = strchr(arg, ':');
	char key[512];
	int fd;

	snprintf(key, sizeof key, "%s", arg);
	if (strcmp(arg, "syscalls") == 0) {
		for (long nr = 0; nr < 480; nr++) {
			if (nr == 336)
				nr = 424; /* x86_64 has a gap there */
			snprintf(key, sizeof key, "syscall.%03ld", nr);
			if (!skipped(nr))
				verdict(key, nr, 0);
		}
		return -1;
	}
	if (strcmp(arg, "mounts") == 0) {
		mounts();
		return -1;
	}
	if (strcmp(arg, "stdin") == 0) {
		char buf[256];
		ssize_t n = read(0, buf, sizeof buf - 1);
		buf[n < 0 ? 0 : n] = 0;
		buf[strcspn(buf, "\n")] = 0;
		value(key, n < 0 ? errname(errno) : buf);
		return -1;
	}
	if (!path)
		return -1;
	path++;
	if (strncmp(arg, "read:", 5) == 0) {
		raw(key, path);
	} else if (strncmp(arg, "write:", 6) == 0) {
		fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		value(key, errname(fd < 0 ? errno : 0));
	} else if (strncmp(arg, "make:", 5) == 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd < 0)
			value(key, errname(errno));
		else
			describe(key, path);
	} else if (strncmp(arg, "list:", 5) == 0) {
		struct dirent **names;
		int n = scandir(path, &names, no_dots, by_name);
		if (n < 0)
			value(key, errname(errno));
		for (int i = 0; i < n; i++)
			value(key, names[i]->d_name);
	} else if (strncmp(arg, "stat:", 5) == 0) {
		describe(key, path);
	} else if (strncmp(arg, "exec:", 5) == 0) {
		int st;
		pid_t pid;
		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			execl(path, path, "fail:0", NULL);
			_exit(errno & 0xff);
		}
		waitpid(pid, &st, 0);
		value(key, errname(WIFEXITED(st) ? WEXITSTATUS(st) : 255));
	} else if (strncmp(arg, "int80:", 6) == 0) {
		verdict(key, atol(path), 1);
	} else if (strncmp(arg, "fail:", 5) == 0) {
		return atoi(path);
	} else if (strncmp(arg, "kill:", 5) == 0) {
		fflush(stdout);
		raise(atoi(path));
	}
	return -1;
}

int main(int argc, char **argv, char **envp)
{
	int code = 0;

	if (argc == 2 && strcmp(argv[1], "fail:0") == 0)
		return 0;
	if (argc == 4 && strcmp(argv[1], "swap") == 0)
		for (;;)
			if (syscall(SYS_renameat2, AT_FDCWD, argv[2], AT_FDCWD, argv[3], 2 /* RENAME_EXCHANGE */) < 0)
				return 1;
	fds(); /* before anything is opened */
	status();
	process(argv, envp);
	namespaces();
	lines("mount", "/proc/self/mountinfo");
	lines("uid_map", "/proc/self/uid_map");
	lines("gid_map", "/proc/self/gid_map");
	raw("setgroups", "/proc/self/setgroups");
	lines("limit", "/proc/self/limits");
	raw("attr.current", "/proc/self/attr/current");
	raw("attr.exec", "/proc/self/attr/exec");
	lines("cgroup", "/proc/self/cgroup");
	raw("oom_score_adj", "/proc/self/oom_score_adj");
	lines("timens_offsets", "/proc/self/timens_offsets");
	raw("coredump_filter", "/proc/self/coredump_filter");
	raw("sessionid", "/proc/self/sessionid");
	devices("/dev");
	for (int i = 1; i < argc; i++) {
		int c = ask(argv[i]);
		if (c >= 0)
			code = c;
	}
	fflush(stdout);
	return code;
}
