// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package bpf

import "fmt"

// Taints are what the kernel holds against a process, or in a KindTaint of no
// process against the host. A child has those of its parent. Those that speak
// of the program in memory end when another is executed ([Taints.OfProgram]);
// the others stay until the process ends.
type Taints uint64

// The taints, as bits (record.h). The last three are the host's.
const (
	TaintEventLoss         Taints = 1 << iota // a record about it was lost
	TaintStateLost                            // its kernel state was lost, and any taint in it
	TaintGeneration                           // its generation does not fit 32 bits
	TaintTraced                               // somebody attached with ptrace
	TaintMemoryWritten                        // process_vm_writev into it, or its /proc/PID/mem opened for writing
	TaintMemoryWrittenSelf                    // opened its own /proc/PID/mem for writing
	TaintMMChanged                            // prctl PR_SET_MM: exe link, argv or environment are no longer exec's
	TaintNamespaceChanged                     // another mount, user or pid namespace, or root, than at exec
	TaintMountedOver                          // mounts in its namespace were changed since exec, by itself
	TaintMemfdExec                            // runs a program that is a file in memory only
	TaintUsermodeHelper                       // started by the kernel: core pattern, modprobe
	TaintIOUring                              // has io_uring: opens and writes no system call shows
	TaintUserfaultfd                          // has a userfaultfd: the memory it reads may be answered by a program
	TaintMprotectExec                         // made memory executable that was not mapped so
	TaintModuleLoaded                         // host: a kernel module was loaded
	TaintBPFLoaded                            // host: a stranger loaded a program into the kernel
	TaintSensorDisturbed                      // host: something is wrong with the sensor itself

	// Not a taint to people: Process.OpensLost says it.
	taintOpensLost Taints = 1 << 31

	taintsOfProgram = TaintTraced | TaintMemoryWritten | TaintMemoryWrittenSelf | TaintMMChanged | TaintNamespaceChanged |
		TaintMountedOver | TaintMemfdExec | TaintIOUring | TaintUserfaultfd | TaintMprotectExec
)

var taintNames = [...]string{"event-loss", "state-lost", "generation-overflow", "traced", "memory-written",
	"memory-written-self", "mm-changed", "namespace-changed", "mounted-over", "memfd-exec", "usermode-helper", "io-uring",
	"userfaultfd", "mprotect-exec", "module-loaded", "bpf-loaded", "sensor-disturbed"}

// Names returns the names of the taints that are set, nil when none is.
func (t Taints) Names() []string {
	var names []string
	for bit := range 64 {
		switch {
		case t&(1<<bit) == 0:
		case bit < len(taintNames):
			names = append(names, taintNames[bit])
		default:
			names = append(names, fmt.Sprintf("taint-%d", bit))
		}
	}
	return names
}

// OfProgram returns those of t that end with the next exec.
func (t Taints) OfProgram() Taints { return t & taintsOfProgram }
