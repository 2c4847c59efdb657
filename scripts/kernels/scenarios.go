// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

// releases are the Debian releases whose kernels are booted.
var releases = []struct{ codename, name string }{
	{"bookworm", "debian-12"},
	{"trixie", "debian-13"},
}

// rooms are the packages whose tests run in the guest. A room that does not
// exist is left out.
var rooms = []string{"bpf", "measure", "gate"}

// scenario is one way to start a guest. What it runs is a regular expression
// per room; a room it does not name is not run.
type scenario struct {
	name    string
	cmdline string
	prepare string // a line of shell, run before the tests
	tier    string // that the sensor must find there
	require string // what the guest has, for JURAT_REQUIRE
	tests   map[string]string
}

var scenarios = []scenario{
	{
		name: "default", tier: "lsm", require: "root,bpf,lsm,verity",
		tests: map[string]string{"bpf": ".", "measure": ".", "gate": "."},
	},
	{
		// As Ubuntu ships it: the LSM programs load, attach, and never run.
		name: "no-bpf-in-lsm", cmdline: "lsm=landlock,lockdown,yama,integrity,apparmor",
		tier: "trampoline", require: "root,bpf,trampoline",
		tests: map[string]string{"bpf": "Tier|Signal|Hook"},
	},
	{
		name: "ima", cmdline: "ima_policy=tcb ima_hash=sha256",
		tier: "lsm", require: "root,bpf,lsm,ima,verity",
		tests: map[string]string{"bpf": "Tier|Signal|Digest"},
	},
	{
		// Switches off LSM programs and trampolines alike, and no link shows it.
		name: "ftrace-off", prepare: "echo 0 >/proc/sys/kernel/ftrace_enabled",
		tier: "tracepoint", require: "root,bpf",
		tests: map[string]string{"bpf": "Tier|Signal"},
	},
}
