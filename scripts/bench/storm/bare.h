/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * System calls without a C library, so that of what the programs here do the
 * kernel's work is nearly all. A program defines run(). Built by the bench
 * with: gcc -O1 -static -nostdlib -fno-stack-protector -fno-builtin
 */
#include <sys/syscall.h>

struct timespec64 { long sec, nsec; };

static inline __attribute__((always_inline)) long sys5(long n, long a, long b, long c, long d, long e) {
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return r;
}

#define sys(n, a, b, c, d) sys5(n, (long)(a), (long)(b), (long)(c), (long)(d), 0)

static long number(const char *s) {
	long n = 0;
	while (*s)
		n = n * 10 + (*s++ - '0');
	return n;
}

/* tell writes a number and a byte to standard output. */
static void tell(long n, char end) {
	char text[24], *at = text + sizeof(text);
	*--at = end;
	do
		*--at = '0' + n % 10;
	while (n /= 10);
	sys(SYS_write, 1, at, text + sizeof(text) - at, 0);
}

__attribute__((noreturn)) static void end(long code) {
	for (;;)
		sys(SYS_exit, code, 0, 0, 0);
}

void run(long *stack);

__attribute__((naked, noreturn)) void _start(void) {
	__asm__("mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
}
