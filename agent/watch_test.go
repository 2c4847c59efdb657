// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

// lost returns the number of records that entries call lost, by cause.
func (r *rig) lost() map[string]uint64 {
	n := make(map[string]uint64)
	for _, e := range r.entries() {
		if e.Loss != nil {
			n[e.Loss.Cause] += e.Loss.Count
		}
	}
	return n
}

func TestLossIsLoggedAndCounted(t *testing.T) {
	r := newRig(t).start().self()
	r.sensor.say(
		bpf.Event{Kind: bpf.KindLost, Lost: bpf.Lost{CPU: 1, Count: 3, Cause: bpf.CauseRingFull}},
		bpf.Event{Kind: bpf.KindLost, Lost: bpf.Lost{CPU: 0, Count: 2, Cause: bpf.CauseUnexplained}},
	)
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	b := r.double.bundles[0]
	if got := r.lost(); got["ring-full"] != 3 || got["unexplained"] != 2 {
		t.Errorf("entries say %v", got)
	}
	if b.Checkpoint.Lost != 5 || b.Requests[0].Value.Before.Lost != 5 || b.Closing[0].After.Lost != 5 {
		t.Errorf("checkpoint %d, looks %d and %d", b.Checkpoint.Lost, b.Requests[0].Value.Before.Lost, b.Closing[0].After.Lost)
	}
	if s, err := r.client().Status(t.Context()); err != nil || s.Lost != 5 {
		t.Errorf("status %+v, %v", s, err)
	}
}

// TestFullQueueLosesNothingUncounted offers more execs than there is room for
// while nobody measures.
func TestFullQueueLosesNothingUncounted(t *testing.T) {
	const offered = queueLength + 500
	r := newRig(t).start()
	hold := make(chan struct{})
	r.meter.mu.Lock()
	r.meter.exec = func(*measure.Exec) { <-hold }
	r.meter.mu.Unlock()
	for i := range uint32(offered) {
		r.sensor.say(bpf.Event{Kind: bpf.KindExec, CPU: 1, Number: uint64(i) + 1, Process: bpf.Process{Instance: bpf.Instance{PID: 100000 + i, Start: 1, Generation: 1}}})
	}
	if err := r.sensor.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	const dropped = offered - queueLength - workers
	eventually(t, "the loss to be logged", func() bool { return r.lost()[causeFull] >= dropped })
	if got := r.lost()[causeFull]; got != dropped {
		t.Errorf("%d lost, want %d", got, dropped)
	}
	if got := r.agent.epoch.Load().lost.Load(); got != dropped {
		t.Errorf("the epoch counts %d lost, entries say %d", got, dropped)
	}
	close(hold)
	eventually(t, "the rest to be logged", func() bool { return r.kinds()[evidence.KindExec]+dropped == offered })
	if known, _ := r.agent.table.size(); known != offered {
		t.Errorf("%d processes known of %d: the table must not depend on the queue", known, offered)
	}
}

// TestShutdownLogsWhatIsQueued: what was read is in the log when the agent
// has ended.
func TestShutdownLogsWhatIsQueued(t *testing.T) {
	r := newRig(t).start()
	for i := range uint32(300) {
		r.sensor.exec(200000+i, 1)
	}
	if err := r.sensor.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got := r.reopen(); got.Kept != 0 || got.Cut != 0 {
		t.Errorf("recovered %+v", got)
	}
	c, _ := r.agent.log.Last()
	if n := r.kinds()[evidence.KindExec]; n != 300 || c.Size != r.agent.log.Size() {
		t.Errorf("%d execs logged of 300, checkpoint over %d of %d", n, c.Size, r.agent.log.Size())
	}
}

func TestTaintAndExit(t *testing.T) {
	r := newRig(t).start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	i := r.sensor.exec(300000, 1)
	child := bpf.Instance{PID: 300001, Start: 7, Generation: 1}
	tainted := bpf.Process{Instance: i, Taints: bpf.TaintEventLoss}
	r.sensor.say(
		bpf.Event{Kind: bpf.KindCgroup, Process: tainted},
		bpf.Event{Kind: bpf.KindCgroup, Process: tainted}, // no news
		bpf.Event{Kind: bpf.KindFork, Process: bpf.Process{Instance: child, Taints: bpf.TaintEventLoss}, Parent: i},
		bpf.Event{Kind: bpf.KindExit, Process: tainted, Status: 9},
		bpf.Event{Kind: bpf.KindExit, Process: bpf.Process{Instance: bpf.Instance{PID: uint32(os.Getpid()), Start: 1000, PidfdInode: pidfdInode(uint32(os.Getpid())), Generation: 1}}, Status: 256},
	)
	if err := r.sensor.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	var taints, exits []string
	for _, e := range r.entries() {
		switch e.Kind {
		case evidence.KindTaint:
			taints = append(taints, e.Instance.String()+" "+e.Taint.Name)
		case evidence.KindExit:
			exits = append(exits, fmt.Sprint(e.Instance, e.Exit.Code))
		}
	}
	if !slices.Equal(taints, []string{"300000:1000:1 event-loss"}) || r.agent.epoch.Load().taints.Load() != 1 {
		t.Errorf("taints %q", taints)
	}
	// Only of who was measured in full: the others' exits are of no use to anybody.
	if want := fmt.Sprintf("%d:1000:1 256", os.Getpid()); len(exits) != 1 || exits[0] != want {
		t.Errorf("exits %q, want %q", exits, want)
	}
	f, ok := r.agent.table.facts(child.PID)
	if !ok || f.Origin != evidence.OriginFork || f.Instance != instanceOf(child) || f.Exec.Filename != "/bin/agent" {
		t.Errorf("child %+v", f)
	}
	if _, ok := r.agent.table.facts(i.PID); ok {
		t.Error("an exited process is still known")
	}
}

// TestSnapshot: what ran before, and what the ring could not tell.
func TestSnapshot(t *testing.T) {
	r := newRig(t)
	old := bpf.Event{Kind: bpf.KindSeen, Process: bpf.Process{Instance: bpf.Instance{PID: 400000, Start: 5, Generation: 3}, Seen: true}}
	r.sensor.live[400000] = old
	r.start()
	eventually(t, "it to be logged", func() bool { return r.kinds()[evidence.KindExec] == 1 })
	if e := r.entries()[1]; !e.Exec.Seen || e.Instance.Generation != 3 {
		t.Errorf("entry %+v", e.Exec)
	}
	if f, ok := r.agent.table.facts(400000); !ok || f.Origin != evidence.OriginSeen {
		t.Errorf("facts %+v", f)
	}
	// Two processes came and went, and the records of one of each were lost.
	r.sensor.exec(400001, 1)
	if err := r.sensor.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.sensor.mu.Lock()
	delete(r.sensor.live, 400001)
	r.sensor.live[400002] = bpf.Event{Kind: bpf.KindSeen, Process: bpf.Process{Instance: bpf.Instance{PID: 400002, Start: 9, Generation: 1}}}
	r.sensor.mu.Unlock()
	r.sensor.say(bpf.Event{Kind: bpf.KindLost, Lost: bpf.Lost{Count: 2, Cause: bpf.CauseRingFull}})
	eventually(t, "the table to be set right", func() bool {
		_, gone := r.agent.table.facts(400001)
		_, come := r.agent.table.facts(400002)
		return !gone && come
	})
}

func TestTableKeepsToTheNewestRecord(t *testing.T) {
	tb := newTable()
	i := evidence.Instance{PID: 1, Start: 2, PidfdInode: 3, Generation: 5}
	tb.exec(newProgram(&measure.Exec{Instance: i, Filename: "new"}, "agent"))
	late := i
	late.Generation = 4
	tb.exec(newProgram(&measure.Exec{Instance: late, Filename: "old"}, "agent"))
	if f, _ := tb.facts(1); f.Exec.Filename != "new" {
		t.Errorf("a late record replaced a newer one: %+v", f)
	}
	if tb.seen(newProgram(&measure.Exec{Instance: i, Filename: "seen"}, "agent"), reasonOlder) {
		t.Error("a snapshot replaced what an exec told")
	}
	tb.fork(i, evidence.Instance{PID: 9}, 0)
	child := evidence.Instance{PID: 2, Start: 9, Generation: 5}
	tb.fork(child, late, 0)
	if _, ok := tb.facts(2); ok {
		t.Error("a child of a generation that is over got the new program")
	}
	tb.fork(child, i, 0)
	if f, ok := tb.facts(2); !ok || f.Exec.Filename != "new" {
		t.Errorf("child %+v", f)
	}
	other := evidence.Instance{PID: 1, Start: 8, Generation: 1} // the pid again
	tb.exec(newProgram(&measure.Exec{Instance: other, Filename: "next"}, "agent"))
	if p := tb.exit(i); p != nil {
		t.Error("exit of a process that is another by now")
	}
	if f, ok := tb.facts(1); !ok || f.Exec.Filename != "next" {
		t.Errorf("the exit of an earlier process took the pid's next one: %+v", f)
	}
}

func TestHoldersAreBounded(t *testing.T) {
	tb := newTable()
	for pid := range uint32(maxHolders + 1) {
		i := evidence.Instance{PID: pid + 1, Start: 1}
		p := &process{instance: i, program: &program{}}
		if pid < maxHolders {
			p.holder = &holder{}
			tb.holders++
		}
		tb.set(p)
	}
	last := evidence.Instance{PID: maxHolders + 1, Start: 1}
	if _, err := tb.hold(last, zeroReader{}); code(err) != codeBusy {
		t.Errorf("holder %d: %v", maxHolders+1, err)
	}
	tb.exit(evidence.Instance{PID: 1, Start: 1})
	h, err := tb.hold(last, zeroReader{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range maxPerHolder + 1 {
		_, err := h.grant(&want{audience: fmt.Sprint(n)})
		if (err == nil) != (n < maxPerHolder) {
			t.Errorf("credential %d: %v", n, err)
		}
	}
	if _, holders := tb.size(); holders != maxHolders {
		t.Errorf("%d holders", holders)
	}
	if _, err := tb.hold(evidence.Instance{PID: 2, Start: 1, Generation: 7}, zeroReader{}); code(err) != codeExec {
		t.Errorf("another generation: %v", err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestSlowFileHoldsNobodyUp: a measurement that does not end is given up, and
// the exec is logged without a digest.
func TestSlowFileHoldsNobodyUp(t *testing.T) {
	r := newRig(t).start()
	r.meter.mu.Lock()
	r.meter.slow = true
	r.meter.mu.Unlock()
	r.sensor.exec(500000, 1)
	eventually(t, "the exec to be logged", func() bool { return r.kinds()[evidence.KindExec] == 1 })
}
