// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import "strings"

// releases are the Debian releases whose kernels are booted.
var releases = []struct{ codename, name string }{
	{"bookworm", "debian-12"},
	{"trixie", "debian-13"},
}

// boot is one start of a guest: what its kernel is told, and what is done
// there, in order.
type boot struct {
	name    string
	cmdline string
	only    string // of one kernel; empty: of each
	rows    []row
}

// row is one state of a kernel, and what must be found in it.
type row struct {
	name    string
	prepare string              // a line of shell that brings the state about; if it fails, so does the row
	tests   string              // of bpf, as a regular expression; empty: none
	attacks []string            // of scripts/redteam, each of which must be refused
	require string              // what the guest has, for JURAT_REQUIRE
	skipped map[string][]string // tests that a kernel is too old for, by kernel
	want    expectation
}

// expectation is what jurat probe must say: these signals are unknown for
// these reasons, and every other is seen.
type expectation struct {
	tier    string
	better  string                       // tiers above it, each with the reason why it is not had
	unknown map[string]string            // by signal
	only    map[string]map[string]string // by kernel: the same, instead of what unknown says
}

// reasons are those for which signal is unknown on a kernel; empty: it is seen.
func (e *expectation) reason(kernel, signal string) string {
	if reason, differs := e.only[kernel][signal]; differs {
		return reason
	}
	return e.unknown[signal]
}

// What no tier or not every tier sees.
var (
	hooksMiss       = map[string]string{"file-write": "not-watched"}
	trampolinesMiss = map[string]string{"file-write": "not-watched", "kernel-digest": "tier-trampoline"}
	callsMiss       = map[string]string{
		"script": "tier-tracepoint", "executable-maps": "tier-tracepoint", "mprotect-exec": "tier-tracepoint", "file-write": "tier-tracepoint",
		"credentials": "tier-tracepoint", "kernel-digest": "tier-tracepoint", "deny": "tier-tracepoint",
	}
	// Kernels before 6.12 let no program at a system call look up another process.
	noVictims = map[string]map[string]string{"debian-12": {"ptrace": "kernel-too-old", "memory-write": "kernel-too-old", "mem-file": "kernel-too-old"}}
	// Kernels before 6.8 cannot be asked for a digest of fs-verity.
	noVerity = map[string]map[string]string{"debian-12": {"file-write": "not-watched", "kernel-digest": "no-digest"}}
)

const imaPolicy = `dont_measure fsmagic=0x9fa0\nmeasure func=BPRM_CHECK mask=MAY_EXEC\nmeasure func=MMAP_CHECK mask=MAY_EXEC\n`

var boots = []boot{
	{
		name: "stock", // Debian's own list has bpf in it
		rows: []row{
			{
				name: "stock", tests: "^TestSignals$|^TestForkExec|^TestProgramAgainst|^TestCgroupMove|^TestCheckFinds/hooks", require: "root,bpf,lsm,guest",
				want: expectation{tier: "lsm", unknown: hooksMiss, only: noVerity},
			},
			{
				// Switches off LSM programs and trampolines alike, and no link shows it.
				name: "ftrace-off", prepare: "echo 0 >/proc/sys/kernel/ftrace_enabled",
				tests: "^TestSignals$|^TestTier", require: "root,bpf,guest",
				want: expectation{tier: "tracepoint", better: "lsm ftrace-off, trampoline ftrace-off", unknown: callsMiss, only: noVictims},
			},
			{
				name: "ima-policy", prepare: "echo 1 >/proc/sys/kernel/ftrace_enabled && printf '" + imaPolicy + "' >/tmp/policy && cat /tmp/policy >/sys/kernel/security/ima/policy",
				tests: "^TestSignals$|^TestTier|^TestKernelDigest", require: "root,bpf,lsm,ima,guest",
				want: expectation{tier: "lsm", unknown: hooksMiss},
			},
		},
	},
	{
		// As Ubuntu ships it: LSM programs load, attach, and never run.
		name: "no-bpf", cmdline: "lsm=landlock,lockdown,yama,integrity,apparmor",
		rows: []row{{
			name: "no-bpf-in-lsm", tests: "^TestSignals$|^TestTier|^TestScript|^TestKernelDigest", require: "root,bpf,trampoline,guest",
			want: expectation{tier: "trampoline", better: "lsm no-lsm", unknown: trampolinesMiss},
		}},
	},
	{
		// What the tracepoint tier misses (spec/threat-model.md), and what its looks alone catch.
		name: "attacks", only: "debian-13",
		rows: []row{{
			// The kernel has no TPM, the agent's is a socket: what IMA lists is of another one, and would be refused.
			name: "attacks", prepare: "mount -t tmpfs none /sys/kernel/security/ima",
			attacks: []string{"int-0x80", "int-0x80-trace", "ptrace-pokedata", "w-xor-x", "w-xor-x-dropped", "dlopen-dlclose", "credentials-after"},
			want:    expectation{tier: "lsm", unknown: hooksMiss},
		}},
	},
}

// betterThan writes what a probe says of better tiers as an expectation does.
func (p *probe) betterThan() string {
	var all []string
	for _, b := range p.Better {
		all = append(all, b.Tier+" "+b.Reason)
	}
	return strings.Join(all, ", ")
}
