// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func stateOf(t testing.TB, s *Sensor, pidfd int) State {
	t.Helper()
	st, err := s.State(pidfd)
	if err != nil {
		t.Fatalf("state: %v", err)
	}
	return st
}

// execs returns the exec events of pid in order.
func execs(tp *tape, pid int) []Event { return tp.find(is(KindExec, pid)) }

func TestGenerationGrowsWithEachExec(t *testing.T) {
	s := open(t, Options{})
	tp := record(t, s)
	c := spawn(t, exec.Command("/bin/sh", "-c", "exec /bin/sh -c 'exec /bin/cat'"))
	pid := c.Process.Pid
	fork := tp.await(t, "fork", is(KindFork, pid))
	tp.await(t, "the third exec", func(ev *Event) bool { return is(KindExec, pid)(ev) && ev.Program.CommString() == "cat" })
	for i, ev := range execs(tp, pid) {
		if want := fork.Process.Generation + uint32(i) + 1; ev.Process.Generation != want || ev.Flags.Has(FlagThreadExec) {
			t.Errorf("exec %d has generation %d, want %d; flags %b", i, ev.Process.Generation, want, ev.Flags)
		}
	}
	if have, want := stateOf(t, s, c.pidfd).Generation, fork.Process.Generation+3; have != want {
		t.Errorf("state has generation %d, want %d", have, want)
	}
}

func TestMarkCountsForOneGenerationOnly(t *testing.T) {
	s := open(t, Options{})
	tp := record(t, s)
	c := spawn(t, exec.Command("/bin/sh", "-c", "read x; exec /bin/cat"))
	tp.await(t, "sh", is(KindExec, c.Process.Pid))
	before := stateOf(t, s, c.pidfd)
	if before.Measured || before.Seen || before.Taints != 0 {
		t.Errorf("state after exec %+v", before)
	}
	for _, wrong := range []uint32{before.Generation - 1, before.Generation + 1, 0} {
		if ok, err := s.MarkMeasured(c.pidfd, wrong); ok || err != nil {
			t.Errorf("marking generation %d of %d: %v, %v", wrong, before.Generation, ok, err)
		}
		if stateOf(t, s, c.pidfd).Measured {
			t.Errorf("measured by a mark for generation %d at %d", wrong, before.Generation)
		}
	}
	if ok, err := s.MarkMeasured(c.pidfd, before.Generation); !ok || err != nil {
		t.Fatalf("marking: %v, %v", ok, err)
	}
	if !stateOf(t, s, c.pidfd).Measured {
		t.Error("marked, but not measured")
	}
	c.say(t)
	tp.await(t, "cat", func(ev *Event) bool { return is(KindExec, c.Process.Pid)(ev) && ev.Program.CommString() == "cat" })
	after := stateOf(t, s, c.pidfd)
	if after.Measured || after.Generation != before.Generation+1 {
		t.Errorf("state after the second exec %+v", after)
	}
	if ok, err := s.MarkMeasured(c.pidfd, before.Generation); ok || err != nil {
		t.Errorf("marking the generation before: %v, %v", ok, err)
	}
	// A mark that an exec overtook on its way into the kernel.
	if err := s.objects.Measured.Update(int32(c.pidfd), uint64(before.Generation), ebpf.UpdateAny); err != nil {
		t.Fatal(err)
	}
	if after := stateOf(t, s, c.pidfd); after.Measured {
		t.Errorf("a late mark for generation %d counts at %d", before.Generation, after.Generation)
	}
}

// One goroutine marks as fast as it can while the process calls exec: no mark
// for an earlier program may make a later one look measured.
func TestMarkLosesAgainstConcurrentExec(t *testing.T) {
	s := open(t, Options{})
	tp := record(t, s)
	const loops = 200
	script := fmt.Sprintf(`i=$((${1:-0}+1)); [ $i -lt %d ] && exec /bin/sh -c "$0" "$0" $i; exec /bin/cat`, loops)
	c := spawn(t, exec.Command("/bin/sh", "-c", script, script))
	first := tp.await(t, "first exec", is(KindExec, c.Process.Pid)).Process.Generation
	last := first + loops
	marked := make(chan int)
	go func() {
		var won int
		for {
			st, err := s.State(c.pidfd)
			if err != nil || st.Generation == last {
				marked <- won
				return
			}
			if ok, err := s.MarkMeasured(c.pidfd, st.Generation); err == nil && ok {
				won++
			}
		}
	}()
	tp.await(t, "cat", func(ev *Event) bool { return is(KindExec, c.Process.Pid)(ev) && ev.Program.CommString() == "cat" })
	won := <-marked
	if st := stateOf(t, s, c.pidfd); st.Measured || st.Generation != last {
		t.Errorf("%d marks won; at the end %+v, want generation %d", won, st, last)
	}
	t.Logf("%d marks for %d generations", won, loops)
}

func TestChildIsNotMeasuredBecauseItsParentIs(t *testing.T) {
	s := open(t, Options{})
	tp := record(t, s)
	c := spawn(t, exec.Command("/bin/sh", "-c", "read x; (read y); true"))
	parent := tp.await(t, "sh", is(KindExec, c.Process.Pid)).Process
	if ok, err := s.MarkMeasured(c.pidfd, parent.Generation); !ok || err != nil {
		t.Fatalf("marking: %v, %v", ok, err)
	}
	c.say(t)
	fork := tp.await(t, "subshell", func(ev *Event) bool { return ev.Kind == KindFork && ev.Parent.PID == parent.PID })
	pidfd, err := unix.PidfdOpen(int(fork.Process.PID), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if st := stateOf(t, s, pidfd); st.Measured || st.Generation != parent.Generation || st.Seen {
		t.Errorf("child of a measured parent: %+v", st)
	}
	if fork.Process.Start == parent.Start || fork.Process.PidfdInode == parent.PidfdInode && parent.PidfdInode != 0 {
		t.Errorf("child %+v has its parent's identity", fork.Process)
	}
}

func TestSnapshotTakesInWhatRuns(t *testing.T) {
	needKernel(t)
	c := spawn(t, exec.Command("/bin/sh", "-c", "read x; exec /bin/cat"))
	pid := c.Process.Pid
	s := open(t, Options{})
	if _, err := s.State(c.pidfd); !errors.Is(err, ErrNoState) {
		t.Errorf("state before the snapshot: %v, want ErrNoState", err)
	}
	tp := record(t, s)
	seen := make(map[uint32]Event)
	if err := s.Snapshot(func(ev *Event) error {
		if _, twice := seen[ev.Process.PID]; twice {
			t.Errorf("pid %d twice", ev.Process.PID)
		}
		seen[ev.Process.PID] = *ev
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ev := seen[uint32(pid)]
	sameFile(t, "file", ev.Program.File, stat(t, "/bin/sh"))
	if !ev.Process.Seen || ev.Process.Taints != 0 || !ev.Flags.Has(FlagEnvUnknown|FlagArgvUnknown|FlagFile) || ev.Number != 0 {
		t.Errorf("seen: %+v", ev)
	}
	if ev.Parent.PID != uint32(os.Getpid()) || ev.Process.Start/1e7 != startTicks(t, pid) || ev.Program.Namespaces.PID == 0 {
		t.Errorf("seen: parent %+v, process %+v", ev.Parent, ev.Process)
	}
	if _, kthread := seen[2]; kthread || seen[uint32(os.Getpid())].Kind != KindSeen {
		t.Errorf("%d processes; kthreadd %v", len(seen), kthread)
	}
	if st := stateOf(t, s, c.pidfd); !st.Seen || st.Generation != ev.Process.Generation || st.Measured {
		t.Errorf("state %+v", st)
	}
	// Kernel threads are no processes, but start helpers that are.
	kthreadd, err := unix.PidfdOpen(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(kthreadd)
	if st := stateOf(t, s, kthreadd); st.Taints != 0 {
		t.Errorf("state of kthreadd %+v", st)
	}
	c.say(t)
	run := tp.await(t, "exec", is(KindExec, pid)).Process
	if st := stateOf(t, s, c.pidfd); st.Seen || run.Seen || run.Generation != ev.Process.Generation+1 || st.Taints != 0 {
		t.Errorf("after exec: state %+v, event %+v", st, run)
	}
	stop := errors.New("enough")
	if err := s.Snapshot(func(*Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped snapshot: %v", err)
	}
}

// Exec by a thread: the kernel frees the leader's storage, the state goes on.
func TestThreadExecKeepsState(t *testing.T) {
	s := open(t, Options{RingBytes: 1 << 16})
	// Nobody reads, so the ring is full soon and the actor's exec is lost.
	fillRing(t, s)
	c := spawn(t, actor("thread-exec", cat))
	before := stateOf(t, s, c.pidfd)
	for before.Seen { // a starter returns a little before the kernel's exec is over
		before = stateOf(t, s, c.pidfd)
	}
	if before.Taints != TaintEventLoss {
		t.Fatalf("taints %v before the second exec", before.Taints.Names())
	}
	tp := record(t, s)
	makeRoom(t, s)
	c.say(t)
	ev := tp.await(t, "exec", is(KindExec, c.Process.Pid))
	if !ev.Flags.Has(FlagThreadExec) || ev.Program.OldTID == ev.Process.PID || ev.Process.TID != ev.Process.PID {
		t.Errorf("exec by thread %d of %+v, flags %b", ev.Program.OldTID, ev.Process, ev.Flags)
	}
	if ev.Process.Taints != TaintEventLoss || ev.Process.Generation != before.Generation+1 {
		t.Errorf("process %+v, before %+v", ev.Process, before)
	}
	if st := stateOf(t, s, c.pidfd); st.Taints != TaintEventLoss || st.Generation != ev.Process.Generation || st.Measured || st.Seen {
		t.Errorf("state %+v", st)
	}
}

// A leader that is gone cannot pass its state on: the heir is tainted. Only
// of a process from before the sensor, and before the snapshot, nothing can
// have been lost.
func TestThreadExecAfterLeaderEndedIsTainted(t *testing.T) {
	catExec := func(c *child) func(*Event) bool {
		return func(ev *Event) bool { return is(KindExec, c.Process.Pid)(ev) && ev.Program.CommString() == "cat" }
	}
	needKernel(t)
	early := spawn(t, actor("orphan-exec", cat))
	s := open(t, Options{})
	tp := record(t, s)
	early.say(t)
	if ev := tp.await(t, "exec of cat", catExec(early)); !ev.Flags.Has(FlagThreadExec) || ev.Process.Taints != 0 {
		t.Errorf("from before: flags %b, taints %v", ev.Flags, ev.Process.Taints.Names())
	}
	late := spawn(t, actor("orphan-exec", cat))
	early = spawn(t, actor("orphan-exec", cat))
	late.say(t)
	if ev := tp.await(t, "exec of cat", catExec(late)); ev.Process.Taints != TaintStateLost {
		t.Errorf("after attaching: taints %v", ev.Process.Taints.Names())
	}
	s.control.AttachedAt += 1 << 60
	if err := s.putControl(); err != nil { // only the snapshot tells now
		t.Fatal(err)
	}
	if err := s.Snapshot(func(*Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	early.say(t)
	if ev := tp.await(t, "exec of cat", catExec(early)); ev.Process.Taints != TaintStateLost {
		t.Errorf("after the snapshot: taints %v", ev.Process.Taints.Names())
	}
}

func TestTaintIsInherited(t *testing.T) {
	s := open(t, Options{RingBytes: 1 << 16})
	fillRing(t, s)
	c := spawn(t, exec.Command("/bin/sh", "-c", "read x; (read y); true"))
	for stateOf(t, s, c.pidfd).Seen {
		continue // see above
	}
	tp := record(t, s)
	makeRoom(t, s)
	c.say(t)
	ev := tp.await(t, "subshell", func(ev *Event) bool { return ev.Kind == KindFork && ev.Parent.PID == uint32(c.Process.Pid) })
	if ev.Process.Taints != TaintEventLoss {
		t.Errorf("child of a tainted process has taints %v", ev.Process.Taints.Names())
	}
}

func TestStateOfNoProcess(t *testing.T) {
	s := open(t, Options{})
	var pidfd int
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{PidFD: &pidfd}})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if st, err := s.State(pidfd); !errors.Is(err, ErrNoState) || st.Measured {
		t.Errorf("state of a process that is gone: %+v, %v", st, err)
	}
	if ok, err := s.MarkMeasured(pidfd, 1); ok || !errors.Is(err, ErrNoState) {
		t.Errorf("marking it: %v, %v", ok, err)
	}
	if _, err := s.State(0); err == nil || errors.Is(err, ErrNoState) {
		t.Errorf("state of a descriptor that is no pidfd: %v", err)
	}
	s.Close()
	if _, err := s.State(pidfd); !errors.Is(err, ErrClosed) {
		t.Errorf("state after close: %v", err)
	}
}
