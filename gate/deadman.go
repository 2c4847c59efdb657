// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deadMan is a timer of the kernel that kills this process unless it is wound
// again in time. It needs nobody to run: a process that was stopped by a
// signal, a debugger or the cgroup freezer dies of it too, and with it ends
// what it holds.
type deadMan struct {
	id    int32
	limit time.Duration
}

// sigevent is struct sigevent of the kernel (asm-generic/siginfo.h), 64 bytes.
type sigevent struct {
	value  uint64
	signal int32
	notify int32
	_      [48]byte
}

// itimerspec is struct __kernel_itimerspec.
type itimerspec struct{ interval, value unix.Timespec }

func newDeadMan(limit time.Duration) (deadMan, error) {
	const sigevSignal = 0
	d, ev := deadMan{limit: limit}, sigevent{signal: int32(unix.SIGKILL), notify: sigevSignal}
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&d.id))); errno != 0 {
		return d, fmt.Errorf("timer_create: %w", errno)
	}
	return d, d.wind()
}

// wind gives the process limit from now.
func (d *deadMan) wind() error {
	spec := itimerspec{value: unix.NsecToTimespec(int64(d.limit))}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(d.id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}
