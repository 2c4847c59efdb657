// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// refused turns the kernel's answer to an action into what a person can act
// on. The library's own text for EPERM blames a memory limit that kernels
// since 5.11 do not have, so it is not shown.
func refused(action string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) && !errors.As(err, new(*ebpf.VerifierError)) {
		e := &OpenError{Reason: ErrPermission, Cause: err}
		switch missing, capErr := missingCapabilities(); {
		case capErr != nil:
			e.Fact = fmt.Sprintf("%s: %v (own capabilities unknown: %v)", action, unix.EPERM, capErr)
		case len(missing) > 0:
			e.Fact = fmt.Sprintf("%s: this process lacks %s", action, strings.Join(missing, " and "))
			e.Hint = "run as root, or give the service AmbientCapabilities=CAP_BPF CAP_PERFMON"
		default:
			e.Fact = fmt.Sprintf("%s: the kernel refuses although this process has CAP_BPF and CAP_PERFMON", action)
			e.Hint = "look for lockdown=confidentiality, a seccomp filter on bpf(2), or a container with a user namespace of its own"
		}
		return e
	}
	return &OpenError{Reason: ErrUnsupported, Fact: fmt.Sprintf("%s: %v", action, err), Cause: err,
		Hint: "a kernel from 5.15 with CONFIG_BPF_SYSCALL, CONFIG_BPF_JIT and tracepoints is needed"}
}

// missingCapabilities names what the effective set lacks for tracing programs.
func missingCapabilities() ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, err
	}
	effective := uint64(data[0].Effective) | uint64(data[1].Effective)<<32
	has := func(bit int) bool { return effective&(1<<bit) != 0 || effective&(1<<unix.CAP_SYS_ADMIN) != 0 }
	var missing []string
	if !has(unix.CAP_BPF) {
		missing = append(missing, "CAP_BPF")
	}
	if !has(unix.CAP_PERFMON) {
		missing = append(missing, "CAP_PERFMON")
	}
	return missing, nil
}
