// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/gate"
	"github.com/jurat-dev/jurat/measure"
)

// fakeGate answers what it is told to.
type fakeGate struct {
	mu        sync.Mutex
	verdicts  map[uint32]evidence.Value[gate.Verdict] // by process number; else no verdict
	records   []gate.Record
	visited   []uint32
	forgotten []gate.Process
}

func (g *fakeGate) Exec(r *gate.Record) evidence.Value[gate.Verdict] {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records = append(g.records, *r)
	if v, ok := g.verdicts[r.Process.PID]; ok {
		return v
	}
	return evidence.Unknown[gate.Verdict](gate.ReasonNoVerdict)
}

func (g *fakeGate) Visit(pid uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.visited = append(g.visited, pid)
}

func (g *fakeGate) Forget(p gate.Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgotten = append(g.forgotten, p)
}

func gateFile(inode uint64, digest evidence.Value[evidence.Digest]) gate.File {
	return gate.File{ID: evidence.FileID{Device: 1, Inode: inode, Ctime: 3, Size: 4}, Digest: digest}
}

func gateDigest(b byte) evidence.Value[evidence.Digest] {
	return evidence.Known(evidence.Digest{Algorithm: "sha-256", Value: []byte{b}, Source: evidence.SourceRead})
}

// TestEveryExecHasAVerdict: what was held goes to the meter, and whatever was
// not is held against the process, in the log and in each look.
func TestEveryExecHasAVerdict(t *testing.T) {
	script, exe, loader := gateFile(1, gateDigest(1)), gateFile(2, gateDigest(2)), gateFile(3, gateDigest(3))
	late := gateFile(9, evidence.Unknown[evidence.Digest](gate.ReasonDeadline))
	none := evidence.Known[*gate.File](nil)
	unseen := evidence.Unknown[*gate.File](gate.ReasonNoVerdict)
	known := func(f gate.File) evidence.Value[*gate.File] { return evidence.Known(&f) }
	held := func(f gate.File, script, runs bool) measure.Held {
		return measure.Held{ID: f.ID, Digest: f.Digest, Script: script, Runs: runs}
	}
	for name, c := range map[string]struct {
		verdict gate.Verdict
		held    []measure.Held
		how     string
	}{
		"whole": {gate.Verdict{Executable: exe, Script: known(script), Loader: known(loader)},
			[]measure.Held{held(script, true, false), held(exe, false, true), held(loader, false, false)}, ""},
		"static":            {gate.Verdict{Executable: exe, Script: none, Loader: none}, []measure.Held{held(exe, false, true)}, ""},
		"script not held":   {gate.Verdict{Executable: exe, Script: unseen, Loader: none}, []measure.Held{held(exe, false, true)}, "fanotify, script: no-verdict"},
		"loader not held":   {gate.Verdict{Executable: exe, Script: none, Loader: unseen}, []measure.Held{held(exe, false, true)}, "fanotify, loader: no-verdict"},
		"let go unmeasured": {gate.Verdict{Executable: late, Script: none, Loader: none}, []measure.Held{held(late, false, true)}, "fanotify, program: deadline"},
		"script unmeasured": {gate.Verdict{Executable: exe, Script: known(late), Loader: none},
			[]measure.Held{held(late, true, false), held(exe, false, true)}, "fanotify, script: deadline"},
		"loader unmeasured": {gate.Verdict{Executable: exe, Script: none, Loader: known(late)},
			[]measure.Held{held(exe, false, true), held(late, false, false)}, "fanotify, loader: deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var got []measure.Held
			r.meter.exec = func(e *measure.Exec) { got = e.Held }
			r.prepare = func(a *Agent) {
				a.gate = &fakeGate{verdicts: map[uint32]evidence.Value[gate.Verdict]{400000: evidence.Known(c.verdict)}}
			}
			r.start()
			i := instanceOf(r.sensor.exec(400000, 1))
			if err := r.sensor.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the exec to be logged", func() bool { return r.kinds()[evidence.KindExec] == 1 })
			if fmt.Sprint(got) != fmt.Sprint(c.held) {
				t.Errorf("measured with %v, want %v", got, c.held)
			}
			if how := r.howTainted(taintNoVerdict); how != c.how {
				t.Errorf("tainted by %q, want %q", how, c.how)
			}
			if marked := slices.Contains(r.agent.table.taints(i), taintNoVerdict); marked != (c.how != "") {
				t.Errorf("taints %q", r.agent.table.taints(i))
			}
		})
	}
}

// howTainted returns how the log says the only process with that taint got it.
func (r *rig) howTainted(name string) (how string) {
	for _, e := range r.entries() {
		if e.Taint != nil && e.Taint.Name == name {
			how += e.Taint.How
		}
	}
	return how
}

// TestExecWithoutVerdict: it is in the evidence, the next exec starts anew, a
// fork does not, and the gate hears of mounts and exits.
func TestExecWithoutVerdict(t *testing.T) {
	g := &fakeGate{verdicts: make(map[uint32]evidence.Value[gate.Verdict])}
	r := newRig(t)
	r.prepare = func(a *Agent) { a.gate = g }
	r.start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	b := r.double.bundles[0]
	if before := b.Requests[0].Value.Before.Taints; !slices.Contains(before, taintNoVerdict) {
		t.Errorf("the evidence says %q", before)
	}
	i := r.sensor.exec(400000, 1)
	child := bpf.Instance{PID: 400001, Start: 7, Generation: 1}
	r.sensor.say(
		bpf.Event{Kind: bpf.KindFork, Process: bpf.Process{Instance: child}, Parent: i},
		bpf.Event{Kind: bpf.KindTaint, Process: bpf.Process{Instance: i, Taints: bpf.TaintMountedOver}, Taint: bpf.TaintMountedOver},
	)
	if err := r.sensor.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.agent.table.taints(instanceOf(child)); !slices.Contains(got, taintNoVerdict) {
		t.Errorf("a fork of it is %q", got)
	}
	g.mu.Lock()
	g.verdicts[i.PID] = evidence.Known(gate.Verdict{Executable: gateFile(2, gateDigest(2)), Script: evidence.Known[*gate.File](nil), Loader: evidence.Known[*gate.File](nil)})
	g.mu.Unlock()
	next := r.sensor.exec(400000, 2)
	r.sensor.say(bpf.Event{Kind: bpf.KindExit, Process: bpf.Process{Instance: child}})
	if err := r.sensor.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.agent.table.taints(instanceOf(next)); slices.Contains(got, taintNoVerdict) {
		t.Errorf("after an exec with a verdict: %q", got)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.visited, []uint32{i.PID}) || !slices.Equal(g.forgotten, []gate.Process{gateProcess(child)}) {
		t.Errorf("visited %v, forgotten %v", g.visited, g.forgotten)
	}
}

// TestGateSignal: the start entry says whether execs are held, and why not.
func TestGateSignal(t *testing.T) {
	f := SensorFacts{Signals: []evidence.Signal{{Name: "exec"}, {Name: signalGate}}}
	f.setSignal(signalGate, evidence.Known(seenByGate))
	if by, _ := f.Signals[1].By.Get(); by != seenByGate {
		t.Errorf("signals %+v", f.Signals)
	}
	if _, by := heldBy(t.Context(), &Config{}); by.Reason() != reasonOff {
		t.Errorf("without a gate: %v", by)
	}
	for want, err := range map[string]error{
		"not-supported": fmt.Errorf("x: %w", gate.ErrUnsupported), "deadline": fmt.Errorf("x: %w", os.ErrDeadlineExceeded), "not-started": errors.New("x"),
	} {
		if got := gateReason(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}

// TestGateRecord: what the kernel recorded of an exec is what the gate looks for.
func TestGateRecord(t *testing.T) {
	ev := bpf.Event{Time: 5, Flags: bpf.FlagInterpCut, Process: bpf.Process{Instance: bpf.Instance{PID: 1, Start: 2, PidfdInode: 3}}, Parent: bpf.Instance{PID: 4}}
	e := measure.Exec{
		At: 5, Parent: evidence.Instance{PID: 4}, Exe: measure.Inode{Device: 6, Inode: 7, Ctime: 8, Size: 9, Magic: 0x794c7630},
		Text: measure.Inode{Device: 10, Inode: 11, Ctime: 12, Size: 13}, Filename: "/script", Interpreter: "/bin/sh",
	}
	want := gate.Record{
		Process: gate.Process{PID: 1, PidfdInode: 3, Start: 2}, Parent: 4, At: 5, Exe: evidence.FileID{Device: 6, Inode: 7, Ctime: 8, Size: 9},
		Text: evidence.FileID{Device: 10, Inode: 11, Ctime: 12, Size: 13}, Stacked: true, Scripted: true, Interpreter: "/bin/sh", Cut: true,
	}
	if got := gateRecord(&e, &ev); *got != want {
		t.Errorf("%+v, want %+v", *got, want)
	}
	e.Exe.Magic, e.Interpreter, ev.Flags = 0xef53, e.Filename, 0
	if got := gateRecord(&e, &ev); got.Stacked || got.Scripted || got.Cut {
		t.Errorf("a plain file became %+v", *got)
	}
}
