/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/* Attacks on the link between a file and what runs. */
#include "attacks.h"

extern char **environ;

/* Runs the program behind fd, which says its limit and asks. */
static void run_fd(int fd, int flags, const char *path)
{
	char *argv[] = { "worker", "limit", "ask answer", NULL };
	pid_t pid = fork();

	if (pid == 0) {
		drop();
		syscall(SYS_execveat, fd, path, argv, environ, flags);
		line("broken", "execveat: %s", strerror(errno));
		_exit(127);
	}
	reap(pid);
}

static void ask_as(const char *program)
{
	char *argv[] = { (char *)program, "limit", "ask answer", NULL };
	run(argv);
}

/* Somebody flips the file at the path while it is started again and again. */
static void swap_race(void)
{
	char *path = at("worker"), *other = at("other");
	copy(env("WORKER"), path);
	copy(env("EVIL"), other);
	pid_t flipper = fork();
	if (flipper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */);
	}
	int evil = 0;
	for (int i = 0; i < 24; i++) {
		int out[2];
		char said[1 << 15];
		if (pipe(out))
			die("pipe");
		pid_t pid = fork();
		if (pid == 0) {
			dup2(out[1], 1);
			close(out[0]);
			close(out[1]);
			drop();
			execl(path, path, "limit", "ask answer", NULL);
			_exit(127);
		}
		close(out[1]);
		hear(out[0], said, sizeof(said));
		int bad = atoi(said) == 1000000;
		hear(out[0], said, sizeof(said));
		if (bad && said[0]) { /* the honest one may have its credential */
			evil++;
			line("answer", "%s", said + strlen("answer "));
		}
		close(out[0]);
		reap(pid);
	}
	kill(flipper, SIGKILL);
	reap(flipper);
	if (evil)
		deed("%d of 24 starts ran the other program while the path changed under them", evil);
}

/* Runs the evil one and puts the good one in its place before it asks. */
static void rename_after_exec(void)
{
	char *path = at("worker"), *good = at("good");
	copy(env("EVIL"), path);
	copy(env("WORKER"), good);
	struct victim v = victim_with(path, 0);
	check_limit(&v, "another program at the path");
	if (rename(good, path))
		die("rename");
	victim_asks(&v, "answer");
	done(&v);
}

static void hard_link(void)
{
	char *path = at("hard-worker");
	unlink(path);
	if (link(env("EVIL"), path))
		copy(env("EVIL"), path);
	deed("a second name for another program");
	ask_as(path);
}

static int filled(int fd)
{
	int in = open(env("WORKER"), O_RDONLY);
	char block[1 << 16];
	ssize_t n;
	while ((n = read(in, block, sizeof(block))) > 0)
		if (write(fd, block, n) != n)
			die("write");
	close(in);
	return fd;
}

static void memfd(void)
{
	int fd = memfd_create("worker", 0);
	if (fd < 0)
		die("memfd_create");
	deed("the worker's own bytes, in memory only");
	run_fd(filled(fd), AT_EMPTY_PATH, "");
}

static void empty_path(void)
{
	int fd = open(env("EVIL"), O_PATH);
	if (fd < 0)
		die("open");
	deed("another program by its descriptor, without a path");
	run_fd(fd, AT_EMPTY_PATH, "");
}

static void tmpfile_exec(void)
{
	int fd = open(env("WORK"), O_TMPFILE | O_RDWR, 0755);
	if (fd < 0)
		cannot("O_TMPFILE: %s", strerror(errno));
	filled(fd);
	fchmod(fd, 0755);
	char *path;
	if (asprintf(&path, "/proc/self/fd/%d", fd) < 0)
		die("asprintf");
	int again = open(path, O_RDONLY);
	close(fd);
	deed("the worker's own bytes, in a file without a name");
	run_fd(again, AT_EMPTY_PATH, "");
}

static void deleted(void)
{
	char *path = at("worker");
	copy(env("WORKER"), path);
	struct victim v = victim_with(path, 0);
	number(&v, "limit");
	unlink(path);
	deed("its program file was deleted");
	victim_asks(&v, "answer");
	done(&v);
}

static void through_loader(void)
{
	char *argv[] = { "/lib64/ld-linux-x86-64.so.2", (char *)env("EVIL"), "limit", "ask answer", NULL };
	deed("the loader is told to run another program");
	run(argv);
}

static void overlay(void)
{
	char *lower = at("lower"), *upper = at("upper"), *work = at("ovl-work"), *merged = at("merged"), *options, *program;
	mkdir(lower, 0755), mkdir(upper, 0755), mkdir(work, 0755), mkdir(merged, 0755);
	/* upper must be on a file system that overlayfs takes */
	if (asprintf(&program, "%s/worker", lower) < 0 || asprintf(&options, "lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work) < 0)
		die("asprintf");
	copy(env("WORKER"), program);
	if (mount("overlay", merged, "overlay", 0, options))
		cannot("overlay: %s", strerror(errno));
	if (asprintf(&program, "%s/worker", merged) < 0)
		die("asprintf");
	struct victim v = victim_with(program, 0);
	number(&v, "limit");
	/* the overlay's own file is busy; a change of its mode copies it up, and the copy is not */
	chmod(program, 0711);
	if (asprintf(&program, "%s/worker", upper) < 0)
		die("asprintf");
	int fd = open(program, O_WRONLY | O_APPEND);
	if (fd < 0 || write(fd, "x", 1) != 1)
		line("broken", "changing the upper copy: %s", strerror(errno));
	else
		deed("the file was copied up and changed while its lower self runs");
	close(fd);
	victim_asks(&v, "answer");
	done(&v);
	umount2(merged, MNT_DETACH);
}

static void mount_namespace(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			cannot("unshare: %s", strerror(errno));
		if (mount(env("EVIL"), env("WORKER"), NULL, MS_BIND, NULL)) {
			line("cannot", "bind mount: %s", strerror(errno));
			_exit(0);
		}
		deed("in a user and mount namespace of its own, another program is at the worker's path");
		execl(env("WORKER"), env("WORKER"), "limit", "ask answer", NULL);
		_exit(127);
	}
	reap(pid);
}

static void ia32(void)
{
#ifdef __x86_64__
	pid_t pid = fork();
	if (pid == 0) {
		char *low = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		if (low == MAP_FAILED)
			die("mmap");
		unsigned *argv = (unsigned *)(low + 4096), *envp = argv + 16;
		const char *words[] = { env("EVIL"), "limit", "ask answer" };
		char *p = low;
		for (int i = 0; i < 3; i++) {
			argv[i] = (unsigned)(uintptr_t)strcpy(p, words[i]);
			p += strlen(p) + 1;
		}
		for (int i = 0; environ[i] && i < 60 && p + strlen(environ[i]) < low + 4090; i++) {
			if (strncmp(environ[i], "JURAT", 5) && strncmp(environ[i], "WORK", 4))
				continue;
			*envp++ = (unsigned)(uintptr_t)strcpy(p, environ[i]);
			p += strlen(p) + 1;
		}
		drop();
		long r = 11;
		__asm__ volatile("int $0x80" : "+a"(r) : "b"((unsigned)(uintptr_t)low), "c"((unsigned)(uintptr_t)argv), "d"((unsigned)(uintptr_t)(argv + 16)) : "memory", "r8", "r9", "r10", "r11");
		line("cannot", "execve by int 0x80: %s", strerror(-r));
		_exit(0);
	}
	int code = reap(pid);
	if (code == 128 + SIGSEGV)
		cannot("this kernel has no 32-bit entry");
	if (code == 0)
		deed("execve by the 32-bit entry");
#else
	cannot("no 32-bit entry on this machine");
#endif
}

static void binfmt(void)
{
	const char *dir = "/proc/sys/fs/binfmt_misc";
	if (access("/proc/sys/fs/binfmt_misc/register", W_OK) && mount("binfmt_misc", dir, "binfmt_misc", 0, NULL))
		cannot("binfmt_misc: %s", strerror(errno));
	int fd = open("/proc/sys/fs/binfmt_misc/register", O_WRONLY);
	if (fd < 0)
		cannot("binfmt_misc: %s", strerror(errno));
	dprintf(fd, ":juratredteam:M::JURATRED::%s:F", env("EVIL"));
	close(fd);
	char *path = at("handled");
	put(path, "JURATRED\n");
	char *argv[] = { path, "ask answer", NULL };
	deed("a handler runs files of a kind of our own");
	run(argv);
	fd = open("/proc/sys/fs/binfmt_misc/juratredteam", O_WRONLY);
	if (fd >= 0 && write(fd, "-1", 2) < 0)
		line("broken", "the handler is still registered");
	close(fd);
}

const struct attack file_attacks[] = {
	{ "swap-race", swap_race }, { "rename-after-exec", rename_after_exec }, { "hard-link", hard_link }, { "memfd", memfd },
	{ "empty-path", empty_path }, { "o-tmpfile", tmpfile_exec }, { "deleted", deleted }, { "ld-so", through_loader },
	{ "overlay-upper", overlay }, { "mount-namespace", mount_namespace }, { "int-0x80", ia32 }, { "binfmt-misc", binfmt }, { 0 },
};
