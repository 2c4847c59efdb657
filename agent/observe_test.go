// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/agent/local"
	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/measure"
)

func TestOperatorsQuestionsAreForRootOnly(t *testing.T) {
	r := newRig(t).start().self()
	for _, op := range []string{local.OpBundle, local.OpProcesses, local.OpEvents, local.OpMeasurements, local.OpExplain} {
		for _, who := range [][2]uint32{{1000, 0}, {0, 1000}, {1000, 1000}} {
			answer, f := r.agent.do(t.Context(), &local.Request{Op: op, PID: uint32(os.Getpid())}, newPeer(who[0]), who[1])
			if f == nil || f.Code != codeForbidden || answer != nil {
				t.Errorf("%s asked by user %d, connected by %d: %v, %v", op, who[0], who[1], answer, f)
			}
		}
	}
	if r.agent.feed.active() {
		t.Error("somebody listens")
	}
}

func TestProcesses(t *testing.T) {
	r := newRig(t).start().self()
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	tracer := r.sensor.exec(600000, 4)
	child := bpf.Instance{PID: 600001, Start: 7, Generation: 4}
	r.sensor.say(
		bpf.Event{Kind: bpf.KindFork, Process: bpf.Process{Instance: child}, Parent: tracer, CgroupID: 8},
		bpf.Event{Kind: bpf.KindTaint, Time: 9, Process: bpf.Process{Instance: child, Taints: bpf.TaintTraced}, Taint: bpf.TaintTraced, By: tracer, Hook: 1},
		bpf.Event{Kind: bpf.KindCgroup, Process: bpf.Process{Instance: child}, CgroupID: 9},
		bpf.Event{Kind: bpf.KindExit, Process: bpf.Process{Instance: tracer}},
	)
	if err := r.sensor.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := r.client().Processes(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	self, made := all[0], all[1]
	if self.Instance.PID != uint32(os.Getpid()) || self.Standing != local.StandingMeasured || self.Holds != 1 || self.Path != "/bin/agent" {
		t.Errorf("%+v", self)
	}
	by := instanceOf(tracer)
	want := []local.Spoilt{{Name: "traced", At: 9, How: bpf.Hook(1).String(), By: &by}}
	if made.Standing != local.StandingTainted || made.Parent != by || made.Origin != evidence.OriginFork || made.Unit != "c9.service" ||
		fmt.Sprintf("%+v", *made.Taints[0].By) != fmt.Sprintf("%+v", by) || made.Taints[0].How != want[0].How || made.Taints[0].At != 9 {
		t.Errorf("%+v, want the taints %+v", made, want)
	}
	if !r.logged("by="+by.String()) || !r.logged("by_program=/bin/agent") {
		t.Error("the log does not say who did it")
	}
}

// TestProcessesInParts: more than one answer takes is asked for in parts, and
// long names make the parts smaller.
func TestProcessesInParts(t *testing.T) {
	r := newRig(t).start()
	const count = 3000
	command := strings.Repeat("\x01", 15)
	for k := range uint32(count) {
		i := evidence.Instance{PID: 700000 + k, Start: 1, Generation: 1}
		e := measure.Exec{Instance: i, Filename: strings.Repeat("\x01", 500)}
		r.agent.table.exec(newProgram(&e, command))
	}
	first := r.agent.processes(0)
	if !first.More || len(first.Processes) == 0 {
		t.Fatalf("%d processes in one answer, more: %v", len(first.Processes), first.More)
	}
	if data, err := json.Marshal(first); err != nil || len(data) > local.MaxAnswer {
		t.Errorf("an answer of %d bytes, at most %d; %v", len(data), local.MaxAnswer, err)
	}
	all, err := r.client().Processes(t.Context())
	if err != nil || len(all) != count {
		t.Fatalf("%d processes of %d, %v", len(all), count, err)
	}
	for k := range all {
		if all[k].Instance.PID != 700000+uint32(k) {
			t.Fatalf("process %d is %s", k, all[k].Instance)
		}
	}
}

func TestMeasurements(t *testing.T) {
	r := newRig(t)
	digest := evidence.Digest{Algorithm: "sha-256", Value: make([]byte, 32), Source: evidence.SourceCache}
	for _, path := range []string{"/z", "/a"} {
		r.meter.cached = append(r.meter.cached, measure.Cached{Path: path, Digest: digest, First: time.Unix(5, 0), Used: time.Unix(6, 0), Uses: 7})
	}
	r.start()
	m, err := r.client().Measurements(t.Context())
	if err != nil || len(m.Files) != 2 || m.Files[0].Path != "/a" || m.Files[0].FirstSeen != 5 || m.Files[0].LastUsed != 6 || m.Files[0].Uses != 7 {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestExplain: a process is measured for an operator as for a credential, and
// that leaves no trace.
func TestExplain(t *testing.T) {
	r := newRig(t).start().self()
	if err := r.sensor.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the exec to be logged", func() bool { return r.kinds()[evidence.KindExec] == 1 })
	before := r.agent.log.Size()
	e, err := r.client().Explain(t.Context(), uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if e.Summary.Instance.PID != uint32(os.Getpid()) || e.Process == nil || !e.State.Alive || len(e.State.Taints) != 0 || e.Tier != "tracepoint" {
		t.Errorf("%+v", e)
	}
	if r.agent.log.Size() != before || e.Summary.Standing == local.StandingMeasured {
		t.Error("it was logged")
	}
	if _, err := r.client().Explain(t.Context(), 1); code(err) != codePeer {
		t.Errorf("a process the sensor does not know: %v", err)
	}
	if _, err := r.client().Explain(t.Context(), 1<<22+1); code(err) != codeExited {
		t.Errorf("no process: %v", err)
	}
}

var errEnough = errors.New("enough")

// TestEvents: who follows sees each entry as it is logged, and notes of
// credentials.
func TestEvents(t *testing.T) {
	r := newRig(t).start().self()
	got := make(chan local.Event, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- r.client().Events(t.Context(), func(ev *local.Event) error {
			got <- *ev
			if ev.Entry != nil && ev.Entry.Kind == evidence.KindTaint {
				return errEnough
			}
			return nil
		})
	}()
	eventually(t, "the client to follow", r.agent.feed.active)
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	r.sensor.say(bpf.Event{Kind: bpf.KindTaint, Time: 5, Taint: bpf.TaintModuleLoaded})
	if err := <-ended; !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	close(got)
	var kinds []string
	for ev := range got {
		switch {
		case ev.Entry == nil && strings.Contains(ev.Note, "credential issued"):
			kinds = append(kinds, "issued")
		case ev.Entry != nil:
			if ev.Entry.Kind == evidence.KindProcess && (ev.UID == nil || ev.Path != "/bin/agent" || *ev.Instance != *ev.Entry.Instance) {
				t.Errorf("a process that nobody is told of: %+v", ev)
			}
			kinds = append(kinds, ev.Entry.Kind.String())
		}
	}
	for _, want := range []string{"process", "release", "issued", "taint"} {
		if !slices.Contains(kinds, want) {
			t.Errorf("no %s among %q", want, kinds)
		}
	}
	eventually(t, "the place to be free", func() bool { return !r.agent.feed.active() })
}

// TestSlowFollowerMissesEvents, and is told how many; nobody waits for it.
func TestSlowFollowerMissesEvents(t *testing.T) {
	var f feed
	l, err := f.join()
	if err != nil {
		t.Fatal(err)
	}
	for range listenerRing + 7 {
		f.tell(local.Event{Note: "x"})
	}
	ev, err := l.next(t.Context())
	if err != nil || ev.Missed != 7 {
		t.Errorf("missed %d, %v; want 7", ev.Missed, err)
	}
	f.tell(local.Event{Note: "y"})
	if ev, err := l.next(t.Context()); err != nil || ev.Missed != 0 {
		t.Errorf("missed %d, %v; want 0", ev.Missed, err)
	}
	for range maxListeners - 1 {
		if _, err := f.join(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.join(); code(err) != codeBusy {
		t.Errorf("one listener too many: %v", err)
	}
	f.part(l)
	if _, err := f.join(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	empty := &listener{events: make(chan local.Event)}
	if _, err := empty.next(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
