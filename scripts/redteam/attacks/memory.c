/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/* Attacks on the memory of an honest process. */
#include "attacks.h"

static void ptrace_poke(void)
{
	struct victim v = victim();
	unsigned long text = number(&v, "text");
	long word;
	if (ptrace(PTRACE_ATTACH, v.pid, 0, 0))
		cannot("ptrace: %s", strerror(errno));
	reap(v.pid); /* it has stopped */
	for (int i = 0; i < EVIL_SIZE; i += 8) {
		memcpy(&word, (const char *)EVIL_CODE + i, 8);
		if (ptrace(PTRACE_POKETEXT, v.pid, text + i, word))
			die("POKETEXT");
	}
	ptrace(PTRACE_DETACH, v.pid, 0, 0);
	check_limit(&v, "PTRACE_POKETEXT");
	victim_asks(&v, "answer");
	done(&v);
}

/* Traced, changed in its data only, and let go: no page of text tells. */
static void ptrace_data(void)
{
	struct victim v = victim();
	unsigned long data = number(&v, "data");
	if (ptrace(PTRACE_ATTACH, v.pid, 0, 0))
		cannot("ptrace: %s", strerror(errno));
	reap(v.pid);
	ptrace(PTRACE_POKEDATA, v.pid, data, 1000000L);
	ptrace(PTRACE_DETACH, v.pid, 0, 0);
	deed("its data was changed by a debugger that has gone: limit %s", tell(&v, "data_limit"));
	victim_asks(&v, "answer");
	done(&v);
}

/* The same, with a system call that the 64-bit entry does not see. */
static void ptrace_ia32(void)
{
#ifdef __x86_64__
	pid_t probe = fork();
	if (probe == 0) { /* where there is no such entry it is a fault */
		long r = 20; /* getpid */
		__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
		_exit(r != getpid());
	}
	if (reap(probe))
		cannot("this kernel has no 32-bit entry");
	struct victim v = victim();
	unsigned long data = number(&v, "data");
	long r = 26; /* ptrace */
	__asm__ volatile("int $0x80" : "+a"(r) : "b"(PTRACE_ATTACH), "c"(v.pid), "d"(0), "S"(0) : "memory", "r8", "r9", "r10", "r11");
	if (r)
		cannot("ptrace by int 0x80: %s", strerror(-r));
	reap(v.pid);
	ptrace(PTRACE_POKEDATA, v.pid, data, 1000000L);
	ptrace(PTRACE_DETACH, v.pid, 0, 0);
	deed("its data was changed by a debugger that came by the 32-bit entry and has gone: limit %s", tell(&v, "data_limit"));
	victim_asks(&v, "answer");
	done(&v);
#else
	cannot("another machine");
#endif
}

static void proc_mem(void)
{
	struct victim v = victim();
	unsigned long text = number(&v, "text");
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", v.pid);
	int fd = open(path, O_RDWR);
	if (fd < 0 || pwrite(fd, EVIL_CODE, EVIL_SIZE, text) != EVIL_SIZE)
		cannot("/proc/PID/mem: %s", strerror(errno));
	close(fd);
	check_limit(&v, "/proc/PID/mem");
	victim_asks(&v, "answer");
	done(&v);
}

static void proc_mem_data(void)
{
	struct victim v = victim();
	unsigned long data = number(&v, "data");
	char path[64];
	int limit = 1000000;
	snprintf(path, sizeof(path), "/proc/%d/mem", v.pid);
	int fd = open(path, O_RDWR);
	if (fd < 0 || pwrite(fd, &limit, sizeof(limit), data) != sizeof(limit))
		cannot("/proc/PID/mem: %s", strerror(errno));
	close(fd);
	deed("its data was changed through /proc/PID/mem: limit %s", tell(&v, "data_limit"));
	victim_asks(&v, "answer");
	done(&v);
}

static void vm_writev(void)
{
	struct victim v = victim();
	int limit = 1000000;
	struct iovec from = { &limit, sizeof(limit) }, to = { (void *)number(&v, "data"), sizeof(limit) };
	if (process_vm_writev(v.pid, &from, 1, &to, 1, 0) != sizeof(limit))
		cannot("process_vm_writev: %s", strerror(errno));
	deed("its data was changed by process_vm_writev: limit %s", tell(&v, "data_limit"));
	victim_asks(&v, "answer");
	done(&v);
}

/* The victim is made to open its own memory for writing, past its protection. */
static void self_mem(void)
{
	struct victim v = victim();
	unsigned long text = number(&v, "text"), buffer = number(&v, "buffer");
	give(&v, buffer, "/proc/self/mem", 15);
	long fd = sys(&v, SYS_openat, AT_FDCWD, buffer, O_RDWR, 0, 0, 0);
	if (fd < 0)
		cannot("/proc/self/mem: %s", strerror(-fd));
	give(&v, buffer, EVIL_CODE, EVIL_SIZE);
	if (sys(&v, SYS_pwrite64, fd, buffer, EVIL_SIZE, text, 0, 0) != EVIL_SIZE)
		cannot("write to /proc/self/mem is refused");
	check_limit(&v, "/proc/self/mem");
	victim_asks(&v, "answer");
	done(&v);
}

static void write_then_execute(void)
{
	struct victim v = victim();
	unsigned long text = number(&v, "text"), page = text & ~4095UL;
	if (sys(&v, SYS_mprotect, page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0))
		cannot("mprotect");
	give(&v, text, EVIL_CODE, EVIL_SIZE);
	sys(&v, SYS_mprotect, page, 8192, PROT_READ | PROT_EXEC, 0, 0, 0);
	check_limit(&v, "mprotect, write, mprotect");
	victim_asks(&v, "answer");
	done(&v);
}

/* The changed pages are thrown away: the file's own are there again, and nothing shows that others ran. */
static void write_execute_drop(void)
{
	struct victim v = victim();
	unsigned long text = number(&v, "text"), page = text & ~4095UL;
	if (sys(&v, SYS_mprotect, page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0))
		cannot("mprotect");
	give(&v, text, EVIL_CODE, EVIL_SIZE);
	check_limit(&v, "mprotect, write");
	if (sys(&v, SYS_madvise, page, 8192, MADV_DONTNEED, 0, 0, 0) || sys(&v, SYS_mprotect, page, 8192, PROT_READ | PROT_EXEC, 0, 0, 0))
		cannot("madvise");
	victim_asks(&v, "answer");
	done(&v);
}

static void anonymous_code(void)
{
	struct victim v = victim();
	long page = sys(&v, SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page < 0 && page > -4096)
		cannot("mmap: %s", strerror(-page));
	give(&v, page, EVIL_CODE, EVIL_SIZE);
	deed("code in memory without a file says %s", tell(&v, "call %ld", page));
	victim_asks(&v, "answer");
	done(&v);
}

static void unknown_library(void)
{
	struct victim v = victim();
	deed("loaded a library nobody knows: %s", tell(&v, "load %s", env("EVIL_LIBRARY")));
	victim_asks(&v, "answer");
	done(&v);
}

/* Loaded, used, and gone from the maps again. */
static void library_unloaded(void)
{
	struct victim v = victim();
	char *said = tell(&v, "load %s", env("EVIL_LIBRARY"));
	unsigned long handle = strtoul(strncmp(said, "ok ", 3) ? "0" : said + 3, NULL, 0);
	deed("loaded and unloaded a library nobody knows: %s", tell(&v, "unload %lx", handle));
	victim_asks(&v, "answer");
	done(&v);
}

static void preload(void)
{
	char *variable;
	if (asprintf(&variable, "LD_PRELOAD=%s", env("EVIL_LIBRARY")) < 0)
		die("asprintf");
	putenv(variable);
	struct victim v = victim();
	unsetenv("LD_PRELOAD");
	deed("started with LD_PRELOAD: its library's limit is %s", tell(&v, "lib_limit"));
	victim_asks(&v, "answer");
	done(&v);
}

static void uring(void)
{
	struct victim v = victim();
	unsigned long buffer = number(&v, "buffer");
	char zero[256] = { 0 };
	give(&v, buffer, zero, sizeof(zero));
	long fd = sys(&v, 425 /* io_uring_setup */, 4, buffer, 0, 0, 0, 0);
	if (fd < 0)
		cannot("io_uring_setup: %s", strerror(-fd));
	deed("has io_uring: what it opens no system call shows");
	victim_asks(&v, "answer");
	done(&v);
}

static void userfault(void)
{
	struct victim v = victim();
	long fd = sys(&v, SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */, 0, 0, 0, 0, 0);
	if (fd < 0)
		cannot("userfaultfd: %s", strerror(-fd));
	deed("can hold up reads of its memory");
	victim_asks(&v, "answer");
	done(&v);
}

/* A model that nobody accepted, read after the first credential. */
static void unknown_model(void)
{
	struct victim v = victim();
	char *model = at("other.safetensors");
	victim_asks(&v, "control");
	put(model, "not the weights that were accepted");
	deed("read a model nobody accepted: %s", tell(&v, "open %s", model));
	victim_asks(&v, "answer");
	done(&v);
}

const struct attack memory_attacks[] = {
	{ "ptrace-poketext", ptrace_poke }, { "ptrace-pokedata", ptrace_data }, { "int-0x80-trace", ptrace_ia32 }, { "proc-mem", proc_mem }, { "proc-mem-data", proc_mem_data },
	{ "process-vm-writev", vm_writev }, { "self-mem", self_mem }, { "w-xor-x", write_then_execute }, { "w-xor-x-dropped", write_execute_drop }, { "anonymous-code", anonymous_code },
	{ "dlopen", unknown_library }, { "dlopen-dlclose", library_unloaded }, { "ld-preload", preload }, { "io-uring", uring },
	{ "userfaultfd", userfault }, { "unknown-model", unknown_model }, { 0 },
};
