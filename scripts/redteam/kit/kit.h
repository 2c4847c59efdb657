/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/*
 * What every attack needs: a way to ask juratd for a credential, a victim to
 * attack, and the lines that tell the suite what happened:
 *
 *	deed TEXT         the attack did what it is about, and saw that it worked
 *	answer PID JSON   what juratd answered; a credential here is a loss
 *	control PID JSON  what juratd answered before the attack; must be a credential
 *	cannot TEXT       this kernel or machine has not what the attack needs
 *
 * An attack that ends without a deed or a cannot has proved nothing, and the
 * suite says so. See stage.go for the environment that it is given.
 */
#ifndef REDTEAM_KIT_H
#define REDTEAM_KIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void line(const char *word, const char *format, ...)
{
	static char text[1 << 16];
	va_list args;
	va_start(args, format);
	int n = snprintf(text, sizeof(text), "%s ", word);
	n += vsnprintf(text + n, sizeof(text) - n - 1, format, args);
	va_end(args);
	if (n > (int)sizeof(text) - 2)
		n = sizeof(text) - 2;
	text[n++] = '\n';
	if (write(1, text, n) != n)
		_exit(9);
}

#define deed(...) line("deed", __VA_ARGS__)

/* Ends an attack that this machine does not allow. */
#define cannot(...) do { line("cannot", __VA_ARGS__); exit(0); } while (0)

/* Ends an attack that went wrong: that is the suite's fault, not juratd's. */
static void die(const char *what)
{
	line("broken", "%s: %s", what, strerror(errno));
	exit(1);
}

static const char *env(const char *name)
{
	const char *value = getenv(name);
	if (!value)
		die(name);
	return value;
}

/* A path below the attack's own directory; kept until the end. */
static __attribute__((unused)) char *at(const char *name)
{
	char *path;
	if (asprintf(&path, "%s/%s", env("WORK"), name) < 0)
		die("asprintf");
	return path;
}

static __attribute__((unused)) int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	strncpy(a.sun_path, env("JURAT_SOCKET"), sizeof(a.sun_path) - 1);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
		die("connect to juratd");
	return fd;
}

/* Reads to a newline or the end of the stream, and drops the newline. */
static __attribute__((unused)) int hear(int fd, char *into, int size)
{
	int n = 0;
	while (n < size - 1 && read(fd, into + n, 1) == 1 && into[n] != '\n')
		n++;
	into[n] = 0;
	return n;
}

/* The request line for a credential, or for a proof for the service. */
static __attribute__((unused)) const char *request(int proof)
{
	static char text[2048];
	if (proof)
		snprintf(text, sizeof(text), "{\"v\":1,\"op\":\"proof\",\"delegation\":\"%s\",\"method\":\"GET\",\"url\":\"%s/invoices\"}\n",
			 env("JURAT_DELEGATION"), env("JURAT_AUDIENCE"));
	else
		snprintf(text, sizeof(text), "{\"v\":1,\"op\":\"credential\",\"delegation\":\"%s\"}\n", env("JURAT_DELEGATION"));
	return text;
}

/* Asks juratd for a credential and says what it answered. */
static __attribute__((unused)) char *ask_for(const char *word, int proof)
{
	static char answer[1 << 15];
	int fd = dial();
	hear(fd, answer, sizeof(answer));
	const char *text = request(proof);
	if (write(fd, text, strlen(text)) < 0)
		die("write to juratd");
	hear(fd, answer, sizeof(answer));
	close(fd);
	line(word, "%d %s", getpid(), answer[0] ? answer : "{\"error\":{\"code\":\"(closed)\",\"message\":\"the connection ended\"}}");
	return answer;
}

static __attribute__((unused)) void copy(const char *from, const char *to)
{
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	char block[1 << 16];
	ssize_t n;
	if (in < 0 || out < 0)
		die(to);
	while ((n = read(in, block, sizeof(block))) > 0)
		if (write(out, block, n) != n)
			die(to);
	fchmod(out, 0755);
	close(in);
	close(out);
}

static __attribute__((unused)) void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die(path);
	fchmod(fd, 0755);
	close(fd);
}

/* As the workload's user, if root: nothing of root is left. */
static __attribute__((unused)) void drop(void)
{
	uid_t id = atoi(env("WORKLOAD_UID"));
	if (getuid() == 0 && (setgroups(0, NULL) || setresgid(id, id, id) || setresuid(id, id, id)))
		die("drop to the workload's user");
}

/* Waits for a child; returns its exit code, or 128 and its signal. */
static __attribute__((unused)) int reap(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Runs a program as the workload's user to its end. */
static __attribute__((unused)) int run(char *const argv[])
{
	pid_t pid = fork();
	if (pid == 0) {
		drop();
		execv(argv[0], argv);
		line("broken", "exec %s: %s", argv[0], strerror(errno));
		_exit(127);
	}
	return reap(pid);
}

static __attribute__((unused)) int in_role(int argc, char **argv, const char *role)
{
	return argc > 1 && strcmp(argv[1], role) == 0;
}

/*
 * The victim: a registered worker (worker/worker.c) with a hole that lets the
 * attacker make system calls in it, as an exploited bug would.
 */
struct victim {
	pid_t pid;
	int to, from;
};

static __attribute__((unused)) struct victim victim_with(const char *program, int keep_root)
{
	int in[2], out[2];
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		die("pipe");
	struct victim v = { .to = in[1], .from = out[0] };
	v.pid = fork();
	if (v.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		if (!keep_root)
			drop();
		execl(program, program, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	return v;
}

static __attribute__((unused)) struct victim victim(void) { return victim_with(env("WORKER"), 0); }

/* One command to the victim, one line back. */
static __attribute__((unused)) char *tell(struct victim *v, const char *format, ...)
{
	static char text[1 << 15], *command;
	va_list args;
	va_start(args, format);
	int n = vasprintf(&command, format, args);
	va_end(args);
	if (n < 0 || write(v->to, command, n) != n || write(v->to, "\n", 1) != 1)
		die("tell the victim");
	free(command);
	hear(v->from, text, sizeof(text));
	return text;
}

static __attribute__((unused)) void victim_asks(struct victim *v, const char *word)
{
	char *said = tell(v, "ask %s", word);
	line(said[0] ? word : "broken", "%s", said[0] ? said + strlen(word) + 1 : "the victim died");
}

static __attribute__((unused)) unsigned long number(struct victim *v, const char *command)
{
	return strtoul(tell(v, "%s", command), NULL, 0);
}

/* A system call in the victim; -errno on failure. */
static __attribute__((unused)) long sys(struct victim *v, long n, long a, long b, long c, long d, long e, long f)
{
	return strtol(tell(v, "sys %ld %ld %ld %ld %ld %ld %ld", n, a, b, c, d, e, f), NULL, 0);
}

/* Writes into the victim's memory through its own read(2). */
static __attribute__((unused)) void give(struct victim *v, unsigned long address, const void *data, size_t size)
{
	char command[128];
	int n = snprintf(command, sizeof(command), "take %lu %zu\n", address, size);
	char said[64];
	if (write(v->to, command, n) != n || write(v->to, data, size) != (ssize_t)size)
		die("give the victim data");
	hear(v->from, said, sizeof(said));
}

static __attribute__((unused)) void done(struct victim *v)
{
	kill(v->pid, SIGKILL);
	reap(v->pid);
}

/* What replaces the victim's own limit: position independent, and short. */
static __attribute__((noinline, unused, aligned(16))) int evil_limit(void) { return 1000000; }
#define EVIL_CODE ((const void *)evil_limit)
#define EVIL_SIZE 16

static __attribute__((unused)) void check_limit(struct victim *v, const char *how)
{
	unsigned long limit = number(v, "limit");
	if (limit != 1000000) {
		line("broken", "%s left the victim's limit at %lu", how, limit);
		exit(1);
	}
	deed("%s: the victim's limit is %lu now", how, limit);
}

#endif
