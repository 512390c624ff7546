// SPDX-License-Identifier: Apache-2.0

/*
 * Atomic-enter is the first process of a container until it is the payload. It
 * decides nothing: the launcher sends lists of system calls through a socket,
 * atomic-enter makes them, one after the other, and the last one is execve.
 * What is a system call, and with which arguments, is all in the launcher
 * (agent/launch/setup); a start costs less by what a Go runtime takes to boot.
 *
 * It uses no C library, and no memory but its stack and what the lists are read
 * into, whose address the launcher knows.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define BASE ((char *)0x1000000000) /* setup.base */
#define ROOM 0x800000		    /* setup.room */

struct message {		    /* the launcher's; then follow size bytes */
	unsigned int size, first, calls, status;
};

struct call {
	long number, argument[6], ignore; /* an errno that is none, or -1 */
};

struct reply {
	long done, error;
};

static long sys(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;

	__asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return number;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
		      x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "a system call is unknown on this architecture"
#endif
}

static void end(int status)
{
	for (;;)
		sys(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

static void stopped(int signal)
{
	(void)signal;
	end(1);
}

/* stop lets signals end process 1 of a PID namespace as they end any other. */
static void stop(void)
{
	static const int all[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		unsigned long mask;
	} action = {stopped, 0x04000000 /* SA_RESTORER */, stopped, 0};

	if (sys(SYS_getpid, 0, 0, 0, 0, 0, 0) == 1)
		for (unsigned int i = 0; i < sizeof all / sizeof *all; i++)
			sys(SYS_rt_sigaction, all[i], (long)&action, 0, sizeof action.mask, 0, 0);
}

/* receive reads a message, and takes the descriptors that come with it. */
static int receive(int launcher, struct message *m)
{
	char rights[128] __attribute__((aligned(8)));
	struct iovec part = {m, sizeof *m};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = rights, .msg_controllen = sizeof rights};
	long n;

	if (sys(SYS_recvmsg, launcher, (long)&header, MSG_CMSG_CLOEXEC | MSG_WAITALL, 0, 0, 0) != sizeof *m)
		return 0;
	for (long have = 0; have < m->size; have += n) {
		n = sys(SYS_read, launcher, (long)BASE + have, m->size - have, 0, 0, 0);
		if (n <= 0)
			return 0;
	}
	return 1;
}

__attribute__((used)) static void enter(long *stack)
{
	int launcher = 0, status = 1;
	struct message m;

	for (char *digit = (char *)stack[2]; *digit; digit++) /* argv[1] */
		launcher = 10 * launcher + *digit - '0';
	stop();
	if (sys(SYS_mmap, (long)BASE, ROOM, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) != (long)BASE)
		end(status);
	/* The launcher goes when it is done; whoever is still here has failed. */
	while (receive(launcher, &m)) {
		const struct call *c = (const struct call *)(BASE + m.first);
		struct reply reply = {0, 0};

		status = m.status;
		for (; reply.done < m.calls; reply.done++, c++) {
			const long *a = c->argument;
			long result = sys(c->number, a[0], a[1], a[2], a[3], a[4], a[5]);

			if (result < 0 && result >= -4095 && c->ignore != -1 && c->ignore != -result) {
				reply.error = -result;
				break;
			}
		}
		sys(SYS_sendto, launcher, (long)&reply, sizeof reply, MSG_NOSIGNAL, 0, 0);
	}
	end(status);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call enter\n");
#else
__asm__(".globl _start\n_start: mov x0, sp\n and x1, x0, #-16\n mov sp, x1\n bl enter\n");
#endif
