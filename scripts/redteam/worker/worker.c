/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * The registered workload of the evasion suite, and its victim. It does what
 * it is told on standard input, one line a command, one line an answer. The
 * commands stand for the bugs of a real workload: an attacker who found one
 * can make it call the kernel and write to its memory.
 */
#include <dlfcn.h>
#include "../kit/kit.h"

int lib_limit(void); /* libworker.so */

__attribute__((noinline, aligned(16))) int limit(void)
{
	__asm__ volatile("");
#ifdef EVIL
	return 1000000; /* the same program, but for one number */
#else
	return 100;
#endif
}
int data_limit = 100;
char buffer[1 << 16] __attribute__((aligned(4096)));

static void take(unsigned long address, size_t size)
{
	while (size > 0) {
		ssize_t n = read(0, (void *)address, size);
		if (n <= 0)
			_exit(3);
		address += n;
		size -= n;
	}
	line("ok", "");
}

static void load(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW);
	if (!handle)
		return line("error", "%s", dlerror());
	line("ok", "%p", handle);
}

/* Reads a file to its end, as a model is read. */
static void open_file(const char *path)
{
	char block[4096];
	int fd = open(path, O_RDONLY);
	ssize_t n, all = 0;
	while (fd >= 0 && (n = read(fd, block, sizeof(block))) > 0)
		all += n;
	line("ok", "%zd", fd < 0 ? -1 : all);
	if (fd >= 0)
		close(fd);
}

static void obey(char *command)
{
	char word[4096];
	unsigned long a[7];
	if (sscanf(command, "ask %4095s", word) == 1)
		ask_for(word, 0);
	else if (sscanf(command, "proof %4095s", word) == 1)
		ask_for(word, 1);
	else if (sscanf(command, "take %lu %lu", &a[0], &a[1]) == 2)
		take(a[0], a[1]);
	else if (sscanf(command, "call %lu", &a[0]) == 1)
		printf("%d\n", ((int (*)(void))a[0])());
	else if (sscanf(command, "load %4095s", word) == 1)
		load(word);
	else if (sscanf(command, "unload %lx", &a[0]) == 1)
		printf("%d\n", dlclose((void *)a[0]));
	else if (sscanf(command, "open %4095s", word) == 1)
		open_file(word);
	else if (sscanf(command, "sys %ld %ld %ld %ld %ld %ld %ld", &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &a[6]) == 7) {
		long r = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
		printf("%ld\n", r == -1 ? -(long)errno : r);
	} else if (strcmp(command, "limit") == 0)
		printf("%d\n", limit());
	else if (strcmp(command, "lib_limit") == 0)
		printf("%d\n", lib_limit());
	else if (strcmp(command, "data_limit") == 0)
		printf("%d\n", data_limit);
	else if (strcmp(command, "text") == 0)
		printf("%p\n", (void *)limit);
	else if (strcmp(command, "lib_text") == 0)
		printf("%p\n", (void *)lib_limit);
	else if (strcmp(command, "data") == 0)
		printf("%p\n", (void *)&data_limit);
	else if (strcmp(command, "buffer") == 0)
		printf("%p\n", (void *)buffer);
	else
		printf("what? %s\n", command);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc > 1) { /* commands as arguments, for those who only exec it */
		for (int i = 1; i < argc; i++)
			obey(argv[i]);
		return 0;
	}
	static char command[8192];
	while (hear(0, command, sizeof(command)) > 0)
		obey(command);
	return 0;
}
