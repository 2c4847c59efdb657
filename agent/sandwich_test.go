// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/bpf"
	"github.com/jurat-dev/jurat/evidence"
)

// TestNothingIsReleasedWhenTheLooksDiffer changes one thing between the look
// before the quote and the one after it.
func TestNothingIsReleasedWhenTheLooksDiffer(t *testing.T) {
	pid := uint32(os.Getpid())
	for want, change := range map[string]func(r *rig) func(*evidence.State){
		codeExited: func(*rig) func(*evidence.State) { return func(s *evidence.State) { s.Alive = false } },
		codeExec: func(r *rig) func(*evidence.State) {
			return func(*evidence.State) {
				r.sensor.mu.Lock()
				defer r.sensor.mu.Unlock()
				r.sensor.states[pid].Generation = 2
			}
		},
		codeTaint: func(*rig) func(*evidence.State) {
			return func(s *evidence.State) { s.Taints = []string{"event-loss"} }
		},
		codeLoss: func(r *rig) func(*evidence.State) {
			return func(*evidence.State) { r.agent.epoch.Load().lost.Add(3) }
		},
		codeUnmeasured: func(*rig) func(*evidence.State) {
			return func(s *evidence.State) { s.Unmeasured = evidence.Known[uint64](1) }
		},
		codePrivate: func(*rig) func(*evidence.State) {
			return func(s *evidence.State) { s.Private = evidence.Known[uint64](1) }
		},
		codeTraced: func(*rig) func(*evidence.State) {
			return func(s *evidence.State) { s.Tracer = evidence.Known[uint32](77) }
		},
		codeChanged: func(*rig) func(*evidence.State) {
			return func(s *evidence.State) { s.Missing = evidence.Known([]string{"/lib/x.so"}) }
		},
		codeContext: func(*rig) func(*evidence.State) {
			return func(s *evidence.State) { s.Changed = evidence.Known([]string{"cgroup"}) }
		},
		codeUnknown: func(*rig) func(*evidence.State) {
			return func(s *evidence.State) { s.Private = evidence.Unknown[uint64]("unreadable") }
		},
	} {
		t.Run(want, func(t *testing.T) {
			r := newRig(t).start().self()
			f := change(r)
			r.onLook(func(n int, s *evidence.State) {
				if n == 2 {
					f(s)
				}
			})
			if _, err := r.ask(); code(err) != want {
				t.Errorf("%v, want %s", err, want)
			}
			if r.chip.quotes != 1 || len(r.double.bundles) != 0 || r.double.exchanges != 0 {
				t.Errorf("%d quotes, %d bundles, %d exchanges", r.chip.quotes, len(r.double.bundles), r.double.exchanges)
			}
			if n := r.kinds(); n[evidence.KindRelease] != 0 || n[evidence.KindProcess] != 1 {
				t.Errorf("log %v", n)
			}
		})
	}
}

// TestMeasuredAgainWhenMoreIsLoaded: a process that loads code between its
// measurement and the first look is measured again, and one that always has
// more than can be measured goes to the broker as it is.
func TestMeasuredAgainWhenMoreIsLoaded(t *testing.T) {
	for name, c := range map[string]struct {
		look  func(n int, s *evidence.State)
		fulls int
		left  uint64
	}{
		"once":   {func(n int, s *evidence.State) { s.Unmeasured = evidence.Known(uint64(max(0, 2-n))) }, 2, 0},
		"twice":  {func(n int, s *evidence.State) { s.Unmeasured = evidence.Known(uint64(max(0, 3-n))) }, 3, 0},
		"always": {func(_ int, s *evidence.State) { s.Unmeasured = evidence.Known[uint64](3) }, 2, 3},
		"moved": {func(n int, s *evidence.State) {
			if n == 1 {
				s.Changed = evidence.Known([]string{"cgroup"})
			}
		}, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).start().self()
			r.onLook(c.look)
			if _, err := r.ask(); err != nil {
				t.Fatal(err)
			}
			b := r.double.bundles[0]
			before := b.Requests[0].Value.Before
			if left, ok := before.Unmeasured.Get(); r.meter.fulls != c.fulls || !ok || left != c.left {
				t.Errorf("%d measurements, %s unmeasured; want %d, %d", r.meter.fulls, before.Unmeasured, c.fulls, c.left)
			}
			if b.Requests[0].Value.Subject.Index != r.lastProcess() {
				t.Error("the evidence is not of the last measurement")
			}
		})
	}
}

// lastProcess returns the index of the last full measurement in the log.
func (r *rig) lastProcess() (index uint64) {
	for i, e := range r.entries() {
		if e.Kind == evidence.KindProcess {
			index = uint64(i)
		}
	}
	return index
}

// TestHostTaintIsInEveryLook of the time after it.
func TestHostTaintIsInEveryLook(t *testing.T) {
	r := newRig(t).start().self()
	r.sensor.say(bpf.Event{Kind: bpf.KindTaint, Time: 5, Taint: bpf.TaintModuleLoaded | bpf.TaintBPFLoaded})
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	b := r.double.bundles[0]
	want := []string{"bpf-loaded", "module-loaded"}
	if !slices.Equal(b.Requests[0].Value.Before.Taints, want) || !slices.Equal(b.Closing[0].After.Taints, want) || b.Checkpoint.Taints != 2 {
		t.Errorf("looks %q and %q, %d taints", b.Requests[0].Value.Before.Taints, b.Closing[0].After.Taints, b.Checkpoint.Taints)
	}
}

// TestGoneBeforeTheQuote: no quote is made for a process that cannot be
// answered any more.
func TestGoneBeforeTheQuote(t *testing.T) {
	for want, change := range map[string]func(*evidence.State){
		codeExited: func(s *evidence.State) { s.Alive = false },
		codeExec:   func(s *evidence.State) { s.Generation = 2 },
	} {
		r := newRig(t).start().self()
		r.onLook(func(_ int, s *evidence.State) { change(s) })
		if _, err := r.ask(); code(err) != want || r.chip.quotes != 0 {
			t.Errorf("%v after %d quotes, want %s", err, r.chip.quotes, want)
		}
	}
}

// TestExecDuringExchange: a token that arrives for a program that is over is
// given to nobody.
func TestExecDuringExchange(t *testing.T) {
	r := newRig(t).start().self()
	r.double.set(func(_ http.ResponseWriter, q *http.Request) bool {
		if q.URL.Path == "/oauth/token" {
			r.execAgain(2)
			if err := r.sensor.Barrier(t.Context()); err != nil {
				t.Error(err)
			}
		}
		return false
	})
	if got, err := r.ask(); code(err) != codeExec {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestUncleanProcessIsForTheBrokerToJudge: what both looks show alike goes out.
func TestUncleanProcessIsForTheBrokerToJudge(t *testing.T) {
	r := newRig(t).start().self()
	r.onLook(func(_ int, s *evidence.State) {
		s.Tracer, s.Taints = evidence.Known[uint32](9), []string{"x"}
		s.Missing = evidence.Unknown[[]string]("unreadable")
	})
	if _, err := r.ask(); err != nil {
		t.Fatal(err)
	}
	b := r.double.bundles[0]
	before, after := b.Requests[0].Value.Before, b.Closing[0].After
	if tracer, _ := before.Tracer.Get(); tracer != 9 || !slices.Equal(after.Taints, []string{"x"}) || after.Missing.Reason() != "unreadable" {
		t.Errorf("before %+v, after %+v", before, after)
	}
	release := r.entries()[len(r.entries())-1]
	if release.Kind != evidence.KindRelease || release.Release.Window != after.At-before.At || release.Release.Window == 0 || release.Release.Leaf != evidence.LeafHash(b.Requests[0].Raw) {
		t.Errorf("release %+v", release.Release)
	}
}

// TestExecDuringMeasurement: the kernel's mark is for one generation only.
func TestExecDuringMeasurement(t *testing.T) {
	r := newRig(t).start().self()
	r.onMeasurement(func(int) error {
		r.sensor.mu.Lock()
		defer r.sensor.mu.Unlock()
		r.sensor.states[uint32(os.Getpid())].Generation = 2
		return nil
	})
	if _, err := r.ask(); code(err) != codeExec || r.chip.quotes != 0 || r.meter.looks != 0 {
		t.Errorf("%v after %d looks, %d quotes", err, r.meter.looks, r.chip.quotes)
	}
}

// TestUnmeasuredGenerationIsTainted: a look at a process whose kernel mark is
// gone says so.
func TestUnmeasuredGenerationIsTainted(t *testing.T) {
	r := newRig(t).start().self()
	r.onLook(func(n int, _ *evidence.State) {
		r.sensor.mu.Lock()
		defer r.sensor.mu.Unlock()
		r.sensor.states[uint32(os.Getpid())].Measured = n < 2
	})
	if _, err := r.ask(); code(err) != codeTaint {
		t.Errorf("%v", err)
	}
}

func TestBarrierFails(t *testing.T) {
	for when, arm := range map[string]func(r *rig){
		"at identification": func(r *rig) { r.breakBarrier() },
		"before the first look": func(r *rig) {
			r.onMeasurement(func(int) error { r.breakBarrier(); return nil })
		},
		"before the second look": func(r *rig) { r.duringQuote(r.breakBarrier) },
	} {
		r := newRig(t).start().self()
		arm(r)
		if _, err := r.ask(); code(err) != codeSensor {
			t.Errorf("%s: %v", when, err)
		}
		if len(r.double.bundles) != 0 {
			t.Errorf("%s: evidence was sent", when)
		}
	}
}

func (r *rig) breakBarrier() {
	r.sensor.mu.Lock()
	defer r.sensor.mu.Unlock()
	r.sensor.barrier = bpf.ErrClosed
}

// TestCachedToken: a token is given out again only to the same program in the
// same process, as long as it looks as it did.
func TestCachedToken(t *testing.T) {
	pid := uint32(os.Getpid())
	event := func(kind bpf.Kind, r *rig, change func(*bpf.Event)) {
		ev := bpf.Event{Kind: kind, Process: bpf.Process{Instance: bpf.Instance{PID: pid, Start: 1000, PidfdInode: pidfdInode(pid), Generation: 1}}}
		if change != nil {
			change(&ev)
		}
		r.sensor.say(ev)
	}
	for name, c := range map[string]struct {
		happens func(r *rig)
		cached  bool
		sameKey bool
	}{
		"nothing":                 {func(*rig) {}, true, true},
		"others' events":          {func(r *rig) { r.sensor.exec(1, 1) }, true, true},
		"exec":                    {func(r *rig) { r.execAgain(2) }, false, false},
		"moved to another cgroup": {func(r *rig) { event(bpf.KindCgroup, r, nil) }, false, false},
		"taint": {func(r *rig) {
			event(bpf.KindCgroup, r, func(ev *bpf.Event) { ev.Process.Taints = bpf.TaintEventLoss })
		}, false, false},
		"exit and the same pid again": {func(r *rig) {
			event(bpf.KindExit, r, nil)
			r.self()
		}, false, false},
		"records lost": {func(r *rig) {
			r.sensor.say(bpf.Event{Kind: bpf.KindLost, Lost: bpf.Lost{CPU: 1, Count: 2, Cause: bpf.CauseRingFull}})
		}, false, true},
		"a tracer": {func(r *rig) {
			r.onLook(func(_ int, s *evidence.State) { s.Tracer = evidence.Known[uint32](5) })
		}, false, true},
		"almost over": {func(r *rig) {
			r.skew.Store(int64(250 * time.Second))
		}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.start().self()
			first, err := r.ask()
			if err != nil {
				t.Fatal(err)
			}
			c.happens(r)
			second, err := r.ask()
			if err != nil {
				t.Fatal(err)
			}
			if (second.Token == first.Token) != c.cached || (r.chip.quotes == 1) != c.cached {
				t.Errorf("same token: %v, %d quotes", second.Token == first.Token, r.chip.quotes)
			}
			if (confirmed(t, second.Token) == confirmed(t, first.Token)) != c.sameKey {
				t.Errorf("same key: %v", !c.sameKey)
			}
		})
	}
}

// execAgain has this process run another program.
func (r *rig) execAgain(generation uint32) { r.sensor.exec(uint32(os.Getpid()), generation) }

// TestWants: what was given for one task is not given for another.
func TestWants(t *testing.T) {
	a := want{d: evidence.Hash{1}, audience: "https://a", actions: []string{"x", "y"}}
	for name, b := range map[string]want{
		"delegation": {d: evidence.Hash{2}, audience: "https://a", actions: []string{"x", "y"}},
		"audience":   {d: evidence.Hash{1}, audience: "https://b", actions: []string{"x", "y"}},
		"actions":    {d: evidence.Hash{1}, audience: "https://a", actions: []string{"x"}},
		"datatypes":  {d: evidence.Hash{1}, audience: "https://a", actions: []string{"x"}, datatypes: []string{"y"}},
		"bearer":     {d: evidence.Hash{1}, audience: "https://a", actions: []string{"x", "y"}, bearer: true},
	} {
		if a.key() == b.key() {
			t.Errorf("another %s is the same want", name)
		}
	}
}
