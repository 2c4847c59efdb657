// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package gate

import (
	"bytes"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sinceBoot is the clock of the kernel's records: nanoseconds since boot,
// suspend included.
func sinceBoot() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}

// startOf returns when the process behind pidfd started, rounded down to clock
// ticks; 0 when it has ended. It is for kernels whose pidfds have no inode.
func startOf(pid uint32, pidfd int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/stat")
	if err != nil {
		return 0
	}
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); err != nil || n != 0 {
		return 0 // it has ended: the file may be that of another
	}
	// The name in parentheses may hold anything; field 22 is the 20th behind it.
	_, rest, ok := bytes.Cut(data[max(bytes.LastIndexByte(data, ')'), 0):], []byte(" "))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0
	}
	ticks, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return 0
	}
	return ticks * clockTick
}

// execCheckFlag is AT_EXECVE_CHECK (linux/fcntl.h).
const execCheckFlag = 0x10000

// execCheck asks the kernel whether it would execute a file, which opens it
// for that and goes no further. It reports whether the kernel knows the question.
func execCheck(path string) bool {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return false
	}
	var none [1]*byte
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(unix.AT_FDCWD&(1<<64-1)), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(&none)), uintptr(unsafe.Pointer(&none)), execCheckFlag, 0)
	return errno != unix.EINVAL
}

// execNothing has the kernel try to execute a file that is no program.
func execNothing(path string) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return
	}
	argv := [2]*byte{name}
	var none [1]*byte
	unix.Syscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&argv)), uintptr(unsafe.Pointer(&none)))
}
