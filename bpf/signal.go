// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"slices"
	"strings"
)

// Signal is one kind of thing there is to see, and what sees it.
type Signal struct {
	Name   string
	By     string // hooks that see it, joined by blanks; "" when nothing of this package does
	Reason string // with By "": why not
}

// SignalNames are the names of all signals, in the order of [Sensor.Signals].
var SignalNames = [...]string{"exec", "fork", "exit", "cgroup-move", "script", "executable-maps", "mprotect-exec", "code-open",
	"model-open", "file-write", "ptrace", "memory-write", "mem-file", "credentials", "namespaces", "mounts", "mm-change",
	"usermode-helper", "module-load", "bpf-load", "io-uring", "userfaultfd", "kernel-digest", "deny", "exec-gate"}

// ReasonTier is why a signal is not seen that only another tier can see.
const ReasonTier = "tier-" + TierTracepoint

// Signals returns what the attached programs see: every signal, always, in
// the order of SignalNames. Other rooms may see what is unknown here: measure
// when it looks at a process, the gate at an open.
func (s *Sensor) Signals() []Signal {
	signals := make([]Signal, len(SignalNames))
	for i, name := range SignalNames {
		signals[i] = Signal{Name: name}
		if by, reason := s.seenBy(name); len(by) > 0 {
			signals[i].By = strings.Join(by, " ")
		} else {
			signals[i].Reason = reason
		}
	}
	return signals
}

// seenBy names the programs that see a signal, or says why there is none.
func (s *Sensor) seenBy(signal string) (by []string, reason string) {
	switch {
	case signal == signalDigest && s.tier == TierLSM:
		return s.digests()
	case signal == signalDeny && s.tier != TierTracepoint && s.absent[signalDeny] == "":
		return []string{s.refusal()}, ""
	}
	for _, p := range s.programs() {
		if slices.Contains(p.signals, signal) && s.absent[p.name] == "" && s.seesVictims(p.name, signal) {
			by = append(by, p.attach)
		}
	}
	return by, s.missing(signal)
}
