// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// change does one thing to this process when told, and says "changed".
func change(what, where string) error {
	fmt.Println("ready")
	if _, err := io.ReadFull(os.Stdin, make([]byte, 1)); err != nil {
		return err
	}
	if err := changes(what, where); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Println("changed")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func changes(what, where string) error {
	switch what {
	case "user":
		return syscall.Setresuid(1234, 1234, 1234) // of all threads
	case "groups":
		return syscall.Setgroups([]int{4321})
	case "thread": // of one thread that is not the leader
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 1234, 1234, 1234)
			done <- nonzero(errno)
			select {}
		}()
		return <-done
	case "file-system-user":
		return syscall.Setfsuid(1234)
	case "capability", "inheritable": // gives up one, or hands one on to the programs it will run
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var d [2]unix.CapUserData
		if err := unix.Capget(&h, &d[0]); err != nil {
			return err
		}
		if what == "capability" {
			d[0].Effective &^= 1 << unix.CAP_NET_RAW
		} else {
			d[0].Inheritable |= 1 << unix.CAP_NET_RAW
		}
		return unix.Capset(&h, &d[0])
	case "bounding":
		return unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_RAW, 0, 0, 0)
	case "uts":
		return unix.Unshare(unix.CLONE_NEWUTS)
	case "net":
		return unix.Unshare(unix.CLONE_NEWNET)
	case "ipc":
		return unix.Unshare(unix.CLONE_NEWIPC)
	case "cgroup-namespace":
		return unix.Unshare(unix.CLONE_NEWCGROUP)
	case "chroot":
		return unix.Chroot(where)
	case "confine": // of the leader alone
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
		prog := unix.SockFprog{Len: 1, Filter: &allow}
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
		return nonzero(errno)
	case "nothing":
		return nil
	}
	return fmt.Errorf("unknown")
}

func nonzero(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
