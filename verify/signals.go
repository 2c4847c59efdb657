// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"fmt"
	"slices"

	"github.com/jurat-dev/jurat/evidence"
)

// signalNames are the signals of spec/evidence.md section 4.2.1.
var signalNames = [...]string{"exec", "fork", "exit", "cgroup-move", "script", "executable-maps", "mprotect-exec", "code-open", "model-open", "file-write",
	"ptrace", "memory-write", "mem-file", "credentials", "namespaces", "mounts", "mm-change", "usermode-helper", "module-load", "bpf-load", "io-uring",
	"userfaultfd", "kernel-digest", "deny", "exec-gate"}

// Signals without which nothing that evidence says of what was opened holds.
const (
	signalCodeOpen  = "code-open"
	signalModelOpen = "model-open"
)

// alwaysSeen are the signals that every reference wants: without them no
// process instance means anything.
var alwaysSeen = [...]string{"exec", "fork", "exit"}

// seen says whether the epoch's sensor sees a signal, and else why not.
func (v *verified) seen(name string) (why string, ok bool) {
	at := slices.IndexFunc(v.signals, func(s evidence.Signal) bool { return s.Name == name })
	if at < 0 {
		return "not listed", false
	}
	if _, ok := v.signals[at].By.Get(); !ok {
		return state(v.signals[at].By), false
	}
	return "", true
}

// signals wants the sensor to see what the reference names.
func (a *Appraisal) signals(v *verified, ref *Reference) {
	want := append(slices.Clone(alwaysSeen[:]), ref.Minimum.Signals...)
	var missing []string
	for _, name := range want {
		if why, ok := v.seen(name); !ok {
			missing = append(missing, name+": "+why)
		}
	}
	if missing == nil {
		a.pass(AttestorHardware, "signals", want, []string{fmt.Sprintf("%d signals seen, these among them", len(v.signals))})
		return
	}
	a.add(AttestorHardware, "signals", want, missing, ClaimNone, "jurat probe on the host says what its kernel can see, or: "+a.settings(ref, "minimum.signals"))
}
