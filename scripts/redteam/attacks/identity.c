/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/* Attacks on who asks, and in which context. */
#include "attacks.h"

/* Makes the victim connect to juratd; returns its descriptor there. */
static long victim_dials(struct victim *v)
{
	unsigned long buffer = number(v, "buffer");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strncpy(a.sun_path, env("JURAT_SOCKET"), sizeof(a.sun_path) - 1);
	give(v, buffer, &a, sizeof(a));
	long fd = sys(v, SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0, 0, 0);
	if (fd < 0 || sys(v, SYS_connect, fd, buffer, sizeof(a), 0, 0, 0))
		die("the victim's connection");
	return fd;
}

static void speak(int fd)
{
	char said[1 << 15];
	const char *text = request(0);
	hear(fd, said, sizeof(said));
	if (write(fd, text, strlen(text)) < 0)
		die("write");
	hear(fd, said, sizeof(said));
	line("answer", "%d %s", getpid(), said);
}

/* The honest process connects, and somebody else writes. */
static void passed_socket(void)
{
	struct victim v = victim();
	long fd = victim_dials(&v);
	int pidfd = syscall(SYS_pidfd_open, v.pid, 0), mine = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (mine < 0)
		cannot("pidfd_getfd: %s", strerror(errno));
	deed("took over the connection of an honest process");
	speak(mine);
	done(&v);
}

/* Connects, ends, and an honest process gets its number; a child writes. */
static void pid_reuse(void)
{
	int out[2], go[2];
	char said[1 << 15];
	if (pipe(out) || pipe(go))
		die("pipe");
	pid_t first = fork();
	if (first == 0) {
		int fd = dial();
		if (fork() == 0) {
			char c;
			if (read(go[0], &c, 1) < 0)
				_exit(1);
			dup2(out[1], 1);
			speak(fd);
			_exit(0);
		}
		_exit(0);
	}
	reap(first);
	int last = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
	pid_t again = -1;
	for (int i = 0; i < 200 && again != first; i++) {
		if (lseek(last, 0, SEEK_SET) || dprintf(last, "%d", first - 1) < 0)
			break;
		again = fork();
		if (again == 0) {
			if (getpid() != first)
				_exit(0);
			drop();
			execl(env("WORKER"), env("WORKER"), NULL);
			_exit(127);
		}
		if (again != first)
			reap(again);
	}
	if (again != first)
		cannot("the number %d was not to be had again", first);
	usleep(200000);
	deed("process number %d is an honest one now", first);
	if (write(go[1], "g", 1) != 1)
		die("write");
	close(out[1]);
	hear(out[0], said, sizeof(said));
	line(said[0] ? "answer" : "broken", "%s", said[0] ? said + strlen("answer ") : "nobody answered");
	kill(first, SIGKILL);
	reap(first);
}

/* An attested process becomes another program. */
static void exec_after(void)
{
	struct victim v = victim();
	unsigned long buffer = number(&v, "buffer");
	victim_asks(&v, "control");
	char block[4096] = { 0 };
	uint64_t *argv = (uint64_t *)(block + 2048);
	strcpy(block, env("EVIL"));
	argv[0] = buffer;
	/* the environment is that of the process: its strings are found by the C library of the new one only if given */
	uint64_t *envp = argv + 4;
	char *text = block + 512;
	extern char **environ;
	int n = 0;
	for (int i = 0; environ[i]; i++) {
		if (strncmp(environ[i], "JURAT", 5) && strncmp(environ[i], "WORK", 4) && strncmp(environ[i], "LD_LIB", 6))
			continue;
		envp[n++] = buffer + (text - block);
		strcpy(text, environ[i]);
		text += strlen(text) + 1;
	}
	give(&v, buffer, block, sizeof(block));
	char command[256];
	int k = snprintf(command, sizeof(command), "sys %d %lu %lu %lu 0 0 0\n", SYS_execve, buffer, buffer + 2048, buffer + 2048 + 32);
	if (write(v.to, command, k) != k)
		die("write");
	usleep(300000);
	check_limit(&v, "execve in an attested process");
	victim_asks(&v, "answer");
	done(&v);
}

static void spoofed_names(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		drop();
		prctl(PR_SET_NAME, "worker");
		deed("another program under the worker's name and arguments");
		execl(env("EVIL"), env("WORKER"), "limit", "ask answer", NULL);
		_exit(127);
	}
	reap(pid);
}

static void cgroup_move(void)
{
	struct victim v = victim();
	char path[PATH_MAX];
	victim_asks(&v, "control");
	snprintf(path, sizeof(path), "%s/cgroup.procs", env("CGROUP_ROOT"));
	int fd = open(path, O_WRONLY);
	if (fd < 0 || dprintf(fd, "%d", v.pid) < 0)
		cannot("cgroup: %s", strerror(errno));
	close(fd);
	deed("moved out of its unit after it was measured");
	victim_asks(&v, "answer");
	done(&v);
}

static void unshare_after(void)
{
	struct victim v = victim();
	victim_asks(&v, "control");
	long r = sys(&v, SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS, 0, 0, 0, 0, 0);
	if (r)
		cannot("unshare: %s", strerror(-r));
	deed("went into namespaces of its own after it was measured");
	victim_asks(&v, "answer");
	done(&v);
}

static void outside(void)
{
	char *argv[] = { (char *)env("WORKER"), "ask answer", NULL };
	pid_t pid = fork();
	if (pid == 0) {
		deed("the honest program, run by root");
		execv(argv[0], argv);
		_exit(127);
	}
	reap(pid);
}

/* Changes its credentials after it was measured: gives up more of them. */
static void credentials_after(void)
{
	struct victim v = victim();
	victim_asks(&v, "control");
	/* in a user namespace of its own a process has every capability */
	long r = sys(&v, SYS_unshare, CLONE_NEWUSER, 0, 0, 0, 0, 0);
	if (r)
		cannot("unshare: %s", strerror(-r));
	deed("has every capability in a namespace of its own");
	victim_asks(&v, "answer");
	done(&v);
}

const struct attack identity_attacks[] = {
	{ "passed-socket", passed_socket }, { "pid-reuse", pid_reuse }, { "exec-after", exec_after }, { "spoofed-names", spoofed_names },
	{ "cgroup-move", cgroup_move }, { "unshare-after", unshare_after }, { "other-user", outside }, { "credentials-after", credentials_after }, { 0 },
};
