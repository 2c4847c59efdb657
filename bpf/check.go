// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"os"
	"strings"
)

// Finding is something wrong with the sensor itself.
type Finding struct {
	Name   string // what, "ftrace-off" or "ftrace-unknown"
	Detail string // the fact and the place
}

// ftraceSwitch is the switch that turns off every lsm, fentry and fmod_ret
// program at once, without a trace in any of them.
const ftraceSwitch = "/proc/sys/kernel/ftrace_enabled"

// Check looks whether the kernel still runs programs of every type, and returns
// what is wrong, nil when nothing is. It does not yet look for programs that
// were detached or maps that somebody else wrote.
func (s *Sensor) Check() []Finding {
	var found []Finding
	switch b, err := os.ReadFile(ftraceSwitch); {
	case errors.Is(err, os.ErrNotExist): // a kernel without function tracing
	case err != nil:
		found = append(found, Finding{"ftrace-unknown", "reading " + ftraceSwitch + ": " + err.Error()})
	case strings.TrimSpace(string(b)) != "1":
		found = append(found, Finding{"ftrace-off", ftraceSwitch + " is " + strings.TrimSpace(string(b)) + ": lsm and trampoline programs do not run"})
	}
	return found
}
