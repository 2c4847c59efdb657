// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// TaintInfo says in words what a taint means and what helps.
type TaintInfo struct {
	Name       string `json:"name"`
	Meaning    string `json:"meaning"`
	Remedy     string `json:"remedy"`
	Acceptable bool   `json:"acceptable"` // a reference may name it in code.accepted_taints
}

const (
	restart  = "restart the process"
	askAgain = "the host was too busy to watch: restart the process"
	debugger = "restart the process; nobody may debug it, and Yama's ptrace_scope keeps others out"
	reboot   = "restart the machine"
)

// taintTable is every taint of spec/evidence.md section 3.1. Acceptable are those
// that a program may cause in good faith by how it works, or a host by what else
// it runs. What says that the watching had a hole, or that somebody else wrote
// to the process, is never acceptable.
var taintTable = [...]TaintInfo{
	{"event-loss", "a record of the kernel about this process was lost", askAgain, false},
	{"state-lost", "the kernel side had no room to keep the state of this process", askAgain, false},
	{"generation-overflow", "this process called exec more often than can be counted", restart, false},
	{"exec-without-verdict", "the program, or what interprets or loads it, was not held and measured before it ran", restart + "; where its file system cannot be held, run it from another", false},
	{"state-unreadable", "the kernel side's state of this process could not be read", "look at the log of juratd", false},
	{"sensor-disturbed", "the sensor's own programs or maps were tampered with", "look at the log of juratd; then " + reboot, false},

	{"traced", "a debugger was attached to the process (ptrace)", debugger, false},
	{"memory-written", "another process wrote into its memory", debugger, false},
	{"memory-written-self", "the process wrote over protected memory of its own through /proc/self/mem", restart, false},
	{"mm-changed", "the process moved the borders of its own memory (prctl PR_SET_MM)", restart, false},
	{"namespace-changed", "a mount, user or PID namespace or the root was changed after the exec, so that paths mean something else", "enter the namespace before the exec", false},
	{"mounted-over", "the process mounted, moved or unmounted something after its exec, so that paths may mean something else", "mount before the process starts", false},
	{"memfd-exec", "the program was run from memory, not from a file", "install the program as a file", false},
	{"usermode-helper", "the kernel started the program for somebody (core pattern, modprobe)", "start it by its unit", false},
	{"io-uring", "the process set up io_uring, whose operations not every hook sees", "turn io_uring off for it, or accept the taint", true},
	{"userfaultfd", "the process can hold up reads of its memory (userfaultfd)", "turn userfaultfd off for it, or accept the taint", true},
	{"mprotect-exec", "the process made memory executable that it had written itself, as JIT compilers do", "turn the JIT off, or accept the taint", true},
	{"module-loaded", "a kernel module was loaded since the epoch began", "load modules at boot, or accept the taint", true},
	{"bpf-loaded", "somebody else loaded a BPF program that can see or change what the sensor sees", "find out who (jurat events), or accept the taint", true},
	{"written-after-measurement", "a file that the process runs was opened for writing after it was measured", "restart the process after an update of its files", false},

	{"anonymous-exec", "the process has executable memory that no file stands behind, as JIT compilers do", "turn the JIT off, or accept the taint", true},
	{"memfd", "the file exists in memory only", "install it as a file", false},
	{"deleted", "the file was deleted or replaced while it ran", "restart the process after an update of its files", false},
	{"open-for-write", "somebody holds the file open for writing", "close it, then " + restart, false},
	{"writers-unknown", "who holds the file open for writing cannot be told", "use a local file system", false},
	{"unreliable-ctime", "the file system's change times cannot be relied on", "use a local file system", false},
	{"overlay-copied-up", "the file on the overlay is a later copy of what runs", "restart the container", false},
	{"changed-since-exec", "the file changed after the exec", "restart the process after an update of its files", false},
	{"changed-since-open", "the file changed after the process opened it", "restart the process after an update of its files", false},
	{"self-reported", "the process could have written this itself", "give it fewer or shorter arguments", false},
	{"arguments-changed", "the arguments are not those of the exec any more", restart, false},
	{"environment-changed", "the environment is not that of the exec any more", restart, false},
	{"threads-differ", "threads of the process run under different identities", "let all its threads run as one user", false},
	{"not-mapped", "the program file is not what the process executes", restart, false},
	{"not-text", "the file is no text, so it is no script", "start the interpreter with its script", false},
}

// Taints lists every taint there is, in words.
func Taints() []TaintInfo { return slices.Clone(taintTable[:]) }

func taintNamed(name string) (TaintInfo, bool) {
	if at := slices.IndexFunc(taintTable[:], func(t TaintInfo) bool { return t.Name == name }); at >= 0 {
		return taintTable[at], true
	}
	return TaintInfo{}, false
}

// describeTaint is "traced: a debugger …"; a name this version does not know is
// shown as it is.
func describeTaint(name string) string {
	if t, ok := taintNamed(name); ok {
		return t.Name + ": " + t.Meaning
	}
	return name + ": a taint that this verifier does not know"
}

// remedies says what helps against the taints, each word once.
func remedies(names []string) string {
	var out []string
	for _, name := range names {
		if t, ok := taintNamed(name); ok && !slices.Contains(out, t.Remedy) {
			out = append(out, t.Remedy)
		}
	}
	return strings.Join(out, "; ")
}

// forgiven returns the names that the reference does not accept. The table is
// asked again: a reference that was never checked forgives no more.
func (c *CodeReference) forgiven(names []string) (left []string) {
	for _, name := range names {
		if t, ok := taintNamed(name); !ok || !t.Acceptable || !slices.Contains(c.AcceptedTaints, name) {
			left = append(left, name)
		}
	}
	return left
}

// despite is a value whose taints are all accepted by the reference, as known.
func despite[T any](v evidence.Value[T], c *CodeReference) evidence.Value[T] {
	if taints := v.Taints(); len(taints) == 0 || len(c.forgiven(taints)) > 0 {
		return v
	}
	value, _ := v.Observed()
	return evidence.Known(value)
}
