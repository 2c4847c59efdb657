// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

// attack is one row of the suite: what is tried, in words.
type attack struct {
	name, about string
	hooks       bool // only hooks inside the kernel see it: the tracepoint tier misses it, as threat-model.md says
}

// suite is every attack, in the order of attacks/.
var suite = []attack{
	{name: "swap-race", about: "the file at the path is swapped while it is started"},
	{name: "rename-after-exec", about: "another program runs, the good one takes its place"},
	{name: "hard-link", about: "another program under a second name"},
	{name: "memfd", about: "the worker's own bytes, run from memory"},
	{name: "empty-path", about: "execveat by descriptor, without a path"},
	{name: "o-tmpfile", about: "the worker's own bytes in a file without a name"},
	{name: "deleted", about: "the program file is deleted while it runs"},
	{name: "ld-so", about: "the loader is told to run another program"},
	{name: "overlay-upper", about: "the upper copy on an overlay is changed"},
	{name: "mount-namespace", about: "another program at the path, in a user and mount namespace"},
	{name: "int-0x80", about: "execve by the 32-bit entry"},
	{name: "binfmt-misc", about: "a handler of binfmt_misc is another program"},

	{name: "ptrace-poketext", about: "a debugger changes the code and goes"},
	{name: "ptrace-pokedata", about: "a debugger changes data and goes"},
	{name: "int-0x80-trace", about: "the same, attached by the 32-bit entry", hooks: true},
	{name: "proc-mem", about: "code is changed through /proc/PID/mem"},
	{name: "proc-mem-data", about: "data is changed through /proc/PID/mem"},
	{name: "process-vm-writev", about: "data is changed by process_vm_writev"},
	{name: "self-mem", about: "a process patches itself through /proc/self/mem"},
	{name: "w-xor-x", about: "mprotect, write, mprotect over the program's text"},
	{name: "w-xor-x-dropped", about: "the same, and the changed pages given back before the question", hooks: true},
	{name: "anonymous-code", about: "code in memory that no file stands behind"},
	{name: "dlopen", about: "a library nobody knows is loaded"},
	{name: "dlopen-dlclose", about: "the same, and unloaded before the question"},
	{name: "ld-preload", about: "a library is injected by LD_PRELOAD"},
	{name: "io-uring", about: "files are opened through io_uring"},
	{name: "userfaultfd", about: "reads of the process's memory can be held up"},
	{name: "unknown-model", about: "a model nobody accepted is read after the first credential"},

	{name: "passed-socket", about: "an honest process connects, another writes"},
	{name: "pid-reuse", about: "the number of who connected now belongs to an honest process"},
	{name: "exec-after", about: "an attested process becomes another program"},
	{name: "spoofed-names", about: "argv[0] and the command name are the worker's"},
	{name: "cgroup-move", about: "moved to another cgroup after the measurement"},
	{name: "unshare-after", about: "new namespaces after the measurement"},
	{name: "other-user", about: "the honest program run by another user"},
	{name: "credentials-after", about: "all capabilities in a user namespace after the measurement"},

	{name: "changed-line", about: "another script under the same interpreter"},
	{name: "swapped-script", about: "the script replaces itself with the honest one"},
	{name: "pythonpath", about: "PYTHONPATH puts another module first"},
	{name: "changed-module", about: "one line of an imported module is changed"},
	{name: "python-c", about: "code in an argument"},
	{name: "python-stdin", about: "code on standard input"},
	{name: "env-s", about: "#!/usr/bin/env -S starts the interpreter"},
	{name: "moved-script", about: "the directory of a script is exchanged after the kernel opened it"},
	{name: "nested", about: "python starts sh, which starts python"},

	{name: "flood", about: "juratd is stopped while thousands of programs run"},
	{name: "killed-agent", about: "juratd is killed in a storm of execs and started again"},
	{name: "first-run", about: "a program nobody knows ends at once and is deleted"},
	{name: "killed-gate", about: "the process that holds execs is killed in a storm"},
	{name: "stopped-gate", about: "the process that holds execs is stopped in a storm"},
	{name: "stolen-token", about: "the token itself, without the key"},
}
