// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/evidence"
)

// makeKin makes a process in the given way and returns its pid. All but those
// that run another program do nothing but wait to be killed. Nothing but bare
// system calls happens in a fork: it has one of the runtime's threads.
func makeKin(how string) (int, error) {
	switch how {
	case "fork", "fork-then-exec":
		return clone(uintptr(unix.SIGCHLD), idle)
	case "parent":
		return clone(uintptr(unix.CLONE_PARENT|unix.SIGCHLD), idle)
	case "clone3":
		args := [11]uint64{4: uint64(unix.SIGCHLD)} // struct clone_args: exit_signal
		pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
		return made(pid, errno, idle)
	case "vfork": // os/exec's way
		cmd := exec.Command("/bin/sleep", "600")
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	case "orphan":
		return orphan()
	case "thread":
		failed := make(chan error)
		go func() {
			runtime.LockOSThread()
			failed <- unix.Exec("/bin/sleep", []string{"sleep", "600"}, nil)
		}()
		fmt.Println(os.Getpid())
		return 0, <-failed
	}
	return 0, fmt.Errorf("no way %q", how)
}

func idle() {
	for {
		unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

func clone(flags uintptr, child func()) (int, error) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	return made(pid, errno, child)
}

func made(pid uintptr, errno syscall.Errno, child func()) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	if pid == 0 {
		child()
	}
	return int(pid), nil
}

// orphan makes a process whose maker has ended.
func orphan() (int, error) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return 0, err
	}
	maker, err := clone(uintptr(unix.SIGCHLD), func() {
		pid, _, _ := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 {
			idle()
		}
		number := uint32(pid)
		unix.RawSyscall(unix.SYS_WRITE, uintptr(pipe[1]), uintptr(unsafe.Pointer(&number)), 4)
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	})
	if err != nil {
		return 0, err
	}
	if _, err := unix.Wait4(maker, nil, 0, nil); err != nil {
		return 0, err
	}
	var number [4]byte
	if _, err := unix.Read(pipe[0], number[:]); err != nil {
		return 0, err
	}
	return int(*(*uint32)(unsafe.Pointer(&number))), nil
}

// TestRealLineage makes processes in every way there is. Their evidence names
// who made them, with what that one ran then, whoever their parent is by now.
func TestRealLineage(t *testing.T) {
	r := newRig(t)
	r.withKernel()
	r.start()
	own, _ := r.agent.host.agent.Get()
	for how, c := range map[string]struct {
		origin string
		makers int  // between it and this test, the other process among them
		parent bool // the kernel calls its maker its parent
	}{
		"fork":           {evidence.OriginFork, 1, true},
		"clone3":         {evidence.OriginFork, 1, true},
		"parent":         {evidence.OriginFork, 1, false},
		"fork-then-exec": {evidence.OriginFork, 1, true},
		"orphan":         {evidence.OriginFork, 2, false},
		"vfork":          {evidence.OriginExec, 1, true},
		"thread":         {evidence.OriginExec, 0, true},
	} {
		t.Run(how, func(t *testing.T) {
			o := startOther(t, nil, nil, "kin", r.socket)
			pid, err := strconv.Atoi(o.do(t, how))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
			x := explained(t, r, pid, c.origin)
			all, ok := x.Process.Ancestors.Get()
			if !ok || len(all) <= c.makers || all[len(all)-1].Instance.PID != 1 {
				t.Fatalf("ancestors are %s", x.Process.Ancestors)
			}
			if x.Process.Origin != c.origin || all[c.makers].Instance.PID != uint32(os.Getpid()) {
				t.Errorf("origin %s, ancestors %+v", x.Process.Origin, all)
			}
			for k, a := range all[:c.makers+1] { // they all ran this test's program
				if d, ok := a.Digest.Get(); !ok || d.Value.String() != own.Value.String() {
					t.Errorf("ancestor %d %s runs %s", k, a.Path, a.Digest)
				}
			}
			if c.makers > 0 && all[c.makers-1].Instance.PID != o.pid() {
				t.Errorf("it was made by process %d, not by %+v", o.pid(), all)
			}
			about, err := statusOfPID(pid)
			if err != nil || (about.parent == all[0].Instance.PID) != c.parent {
				t.Errorf("its parent is %d, %v", about.parent, err)
			}
		})
	}
}

// explained measures a process once it is known how it came to be.
func explained(t *testing.T, r *rig, pid int, origin string) *local.Explanation {
	t.Helper()
	var x *local.Explanation
	eventually(t, "the process and its makers to be known", func() bool {
		got, f := r.agent.explain(t.Context(), uint32(pid))
		if f != nil {
			t.Log(f)
			return false
		}
		x = got
		if makers, _ := got.Process.Ancestors.Get(); len(makers) > 0 {
			_, measured := makers[0].Digest.Get() // of one that ended it may come a little later
			return got.Process.Origin == origin && measured
		}
		return true
	})
	return x
}
