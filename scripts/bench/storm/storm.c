// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors
//
// storm N [RATE]: N times vfork, exec of itself, exit; at most RATE a second.
// Without a C library, so that the kernel's work is nearly all there is.
// Built by the bench with: gcc -O1 -static -nostdlib -fno-stack-protector
#include <sys/syscall.h>

struct timespec64 { long sec, nsec; };

static inline __attribute__((always_inline)) long sys4(long n, long a, long b, long c, long d) {
	long r;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return r;
}

static long number(const char *s) {
	long n = 0;
	while (*s)
		n = n * 10 + (*s++ - '0');
	return n;
}

static long now(void) {
	struct timespec64 t;
	sys4(SYS_clock_gettime, 1, (long)&t, 0, 0);
	return t.sec * 1000000000L + t.nsec;
}

void run(long *stack) {
	char **argv = (char **)(stack + 1);
	if (stack[0] < 2)
		sys4(SYS_exit, 0, 0, 0, 0);
	long count = number(argv[1]), rate = stack[0] > 2 ? number(argv[2]) : 0, begin = now();
	char *child[2] = {argv[0], 0};
	for (long i = 0; i < count; i++) {
		if (rate > 0) {
			long early = begin + i * (1000000000L / rate) - now();
			struct timespec64 t = {0, early};
			if (early > 200000)
				sys4(SYS_nanosleep, (long)&t, 0, 0, 0);
		}
		// The child shares this stack, so every call between here and exec is inlined.
		long pid = sys4(SYS_vfork, 0, 0, 0, 0);
		if (pid == 0) {
			sys4(SYS_execve, (long)argv[0], (long)child, 0, 0);
			sys4(SYS_exit, 1, 0, 0, 0);
		}
		if (pid < 0)
			sys4(SYS_exit, 2, 0, 0, 0);
		int status = 0;
		sys4(SYS_wait4, pid, (long)&status, 0, 0);
		if (status != 0)
			sys4(SYS_exit, 3, 0, 0, 0);
	}
	sys4(SYS_exit, 0, 0, 0, 0);
}

__attribute__((naked, noreturn)) void _start(void) {
	__asm__("mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
}
