/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The jurat authors */
/* Attacks on an interpreter and what it runs. */
#include "attacks.h"

#define PYTHON "/usr/bin/python3"

/* A line for a Python program that asks as the honest one does. */
static char *asking(const char *before)
{
	char *text;
	if (asprintf(&text, "import json,os,socket\n%s\ns=socket.socket(socket.AF_UNIX)\ns.connect(os.environ['JURAT_SOCKET'])\nf=s.makefile('rw')\n"
			    "f.readline()\nf.write(json.dumps({'v':1,'op':'credential','delegation':os.environ['JURAT_PY_DELEGATION']})+'\\n')\nf.flush()\n"
			    "print('answer',os.getpid(),f.readline().strip(),flush=True)\n", before) < 0)
		die("asprintf");
	return text;
}

static void python(char *script, char *more)
{
	char *argv[] = { PYTHON, "-B", script, more, NULL };
	run(argv);
}

static void changed_line(void)
{
	char *script = at("agent.py");
	put(script, asking("limit = 1000000"));
	deed("another script under the same interpreter");
	python(script, NULL);
}

/* Runs another script, and puts the honest one in its place before it asks. */
static void swapped_script(void)
{
	char *script = at("swapped.py"), *text;
	if (asprintf(&text, "os.replace(%s, %s)\nprint('deed the script replaced itself with the honest one', flush=True)", "os.environ['WORK'] + '/honest.py'", "__file__") < 0)
		die("asprintf");
	copy(env("AGENT"), at("honest.py"));
	put(script, asking(text));
	chmod(env("WORK"), 0777);
	chown(env("WORK"), atoi(env("WORKLOAD_UID")), -1);
	python(script, NULL);
}

/*
 * Another script, by its own name without a suffix, which no open is told of. It
 * opens the honest one, as the honest one would be. Once it runs, the honest one
 * is at its path: the directory is another, so the file's change time shows
 * nothing.
 */
static void moved_script(void)
{
	char *now = at("now"), *then = at("then"), *away = at("away"), *script, *honest, *text;
	int go[2];
	if (asprintf(&script, "%s/agent", now) < 0 || asprintf(&honest, "%s/agent", then) < 0 || pipe(go))
		die("asprintf");
	mkdir(now, 0755);
	mkdir(then, 0755);
	copy(env("AGENT"), honest);
	if (asprintf(&text, "#!" PYTHON " -B\n%s", asking("import sys\nsys.path.insert(0, os.path.dirname(os.environ['AGENT']))\nimport tools\n"
			    "open(os.environ['AGENT']).read()\nos.read(0, 1)")) < 0)
		die("asprintf");
	put(script, text);
	sleep(1); /* nobody may say that the files are young */
	pid_t pid = fork();
	if (pid == 0) {
		dup2(go[0], 0);
		drop();
		execl(script, script, NULL);
		_exit(127);
	}
	usleep(500000);
	if (rename(now, away) || rename(then, now))
		die("rename");
	deed("another script runs, and the honest one is at its path");
	if (write(go[1], "", 1) != 1)
		die("write");
	reap(pid);
}

static void python_path(void)
{
	char *dir = at("path"), *file;
	mkdir(dir, 0755);
	if (asprintf(&file, "%s/json.py", dir) < 0)
		die("asprintf");
	put(file, "print('deed a module of ours came first', flush=True)\ndef dumps(x):\n    return '{\"v\":1,\"op\":\"credential\",\"delegation\":\"%s\"}' % x['delegation']\n");
	setenv("PYTHONPATH", dir, 1);
	python((char *)env("AGENT"), NULL);
	unsetenv("PYTHONPATH");
}

/* The honest script in its place, and a module beside it changed. */
static void changed_module(void)
{
	char *dir = at("copy"), *script, *module;
	mkdir(dir, 0755);
	if (asprintf(&script, "%s/agent.py", dir) < 0 || asprintf(&module, "%s/tools.py", dir) < 0)
		die("asprintf");
	copy(env("AGENT"), script);
	put(module, "def limit():\n    return 1000000\n");
	python(script, NULL);
}

static void inline_code(void)
{
	char *argv[] = { PYTHON, "-B", "-c", asking("pass"), NULL };
	deed("code in an argument");
	run(argv);
}

static void standard_input(void)
{
	int in[2];
	if (pipe(in))
		die("pipe");
	char *text = asking("pass");
	if (write(in[1], text, strlen(text)) < 0)
		die("write");
	close(in[1]);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(in[0], 0);
		drop();
		deed("code on standard input");
		execl(PYTHON, PYTHON, "-B", NULL);
		_exit(127);
	}
	reap(pid);
}

static void split_env(void)
{
	char *script = at("env.py"), *text;
	if (asprintf(&text, "#!/usr/bin/env -S " PYTHON " -B\n%s", asking("print('deed env -S started the interpreter', flush=True)")) < 0)
		die("asprintf");
	put(script, text);
	char *argv[] = { script, NULL };
	run(argv);
}

static void nested(void)
{
	char *inner = at("inner.py"), *outer = at("outer.py"), *text;
	put(inner, asking("print('deed python, sh and python again', flush=True)"));
	if (asprintf(&text, "import os\nos.system('exec sh -c \"exec " PYTHON " -B %s\"')\n", inner) < 0)
		die("asprintf");
	put(outer, text);
	python(outer, NULL);
}

const struct attack script_attacks[] = {
	{ "changed-line", changed_line }, { "swapped-script", swapped_script }, { "pythonpath", python_path }, { "changed-module", changed_module }, { "moved-script", moved_script },
	{ "python-c", inline_code }, { "python-stdin", standard_input }, { "env-s", split_env }, { "nested", nested }, { 0 },
};
