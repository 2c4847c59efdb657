// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// provoke does, as this process and as children of it, one thing of each kind
// that the hooks ought to see, in a way that changes nothing: each call either
// sets what is set already, or is sure to fail behind its hook. Whether it
// failed does not matter. Only the hooks say whether they ran.
func provoke(canary []string) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread, whose host name space is another then,
		// ends with the goroutine.
		runtime.LockOSThread()
		done <- errors.Join(provokeExec(canary), provokeTraceme(canary))
		provokeMemory()
		provokeIdentity()
		provokeMounts()
		provokeLoading()
		close(done)
	}()
	err := <-done
	<-done
	return err
}

// provokeExec makes a child exec, and with it map files and take credentials.
func provokeExec(canary []string) error {
	bird, err := startCanary(canary)
	if err != nil {
		return err
	}
	bird.Wait() // its status means nothing to us
	return nil
}

// provokeTraceme makes a child ask to be traced, and kills it at its exec.
func provokeTraceme(canary []string) error {
	path := "/bin/true"
	if len(canary) > 0 {
		path = canary[0]
	}
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return nil // the exec that provokeExec has made says whether that works
	}
	var status syscall.WaitStatus
	for {
		switch _, err := syscall.Wait4(pid, &status, 0, nil); {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for the traced helper: %w", err)
		case status.Stopped():
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("ending the traced helper: %w", err)
			}
		default:
			return nil
		}
	}
}

func provokeMemory() {
	if page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err == nil {
		unix.Mprotect(page, unix.PROT_READ)
		unix.Munmap(page)
	}
	const userModeOnly = 1
	if fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|userModeOnly, 0, 0); errno == 0 {
		unix.Close(int(fd))
	}
	for _, pid := range []int{1, os.Getppid()} { // one of them is not this process
		os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	}
}

// provokeIdentity sets ids, and the names of other processes' start, to what they are.
func provokeIdentity() {
	const same = ^uintptr(0)
	unix.RawSyscall(unix.SYS_SETREUID, same, same, 0)
	unix.Prctl(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	unix.Unshare(unix.CLONE_NEWUTS)
}

// provokeMounts asks for what cannot be: moving a directory that is not there,
// the root onto itself, the root away while it is in use.
func provokeMounts() {
	unix.Mount("/nonexistent-jurat", "/", "", unix.MS_MOVE, "")
	unix.MoveMount(unix.AT_FDCWD, "/", unix.AT_FDCWD, "/", 0)
	unix.Unmount("/", unix.MNT_EXPIRE)
	unix.PivotRoot("/", "/")
	unix.Chroot("/")
}

// provokeLoading asks for a module out of no memory, and loads a program that
// returns.
func provokeLoading() {
	const length = 4096
	unix.Syscall(unix.SYS_INIT_MODULE, 0, length, 0)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SocketFilter, License: "Dual MIT/GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err == nil {
		p.Close()
	}
}

// refuses reports whether a helper that must not run does not.
func refuses(canary []string) (bool, error) {
	bird, err := startCanary(canary)
	if err == nil {
		bird.Wait()
		return false, nil
	}
	if errors.Is(err, unix.EPERM) {
		return true, nil
	}
	return false, err
}
