// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
	"github.com/jurat-dev/jurat/tpm"
)

// again starts an agent that was stopped, with a kernel that knows nothing.
func (r *rig) again() *rig {
	r.t.Helper()
	r.sensor = newFakeSensor()
	r.meter.sensor = r.sensor
	return r.start()
}

// end stops the agent.
func (r *rig) end() {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Fatal(err)
	}
}

// prove has the agent quote, about a program that nobody was told of yet.
func (r *rig) prove() (*evidence.Bundle, error) {
	r.t.Helper()
	r.generation++
	r.execAgain(r.generation)
	before := r.double.count()
	_, err := r.ask()
	r.double.mu.Lock()
	defer r.double.mu.Unlock()
	if len(r.double.bundles) == before {
		return nil, err
	}
	return r.double.bundles[len(r.double.bundles)-1], err
}

// proved is a bundle that the broker believed.
func (r *rig) proved() *evidence.Bundle {
	r.t.Helper()
	b, err := r.prove()
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// registerSize is how many checkpoints of the register the broker knows.
func (r *rig) registerSize() uint64 {
	r.double.mu.Lock()
	defer r.double.mu.Unlock()
	if last := r.double.host.Last; last != nil && last.Register != nil {
		return last.Register.Size
	}
	return 0
}

// outside opens the TPM as somebody else on this host does.
func outside(t testing.TB, device *softtpm.TPM, do func(*tpm.LatchRegister) error) {
	t.Helper()
	dev, err := tpm.Open(device.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	register, _, err := dev.Register(t.Context(), tpm.RegisterOptions{})
	if err == nil {
		err = do(register)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnchoredLog(t *testing.T) {
	r := newRig(t)
	r.withTPM()
	r.start()
	first := r.proved()
	if h := first.Header; h.Anchor != evidence.AnchorNVLatch || string(h.NVName) != string(tpm.RegisterName(tpm.DefaultIndex, tpm.DefaultLatch)) {
		t.Errorf("header %+v", h)
	}
	if g := first.Register; g.From != 0 || !g.Base.IsZero() || len(g.Tail) != 2*32 || first.Banks == nil {
		t.Errorf("register %+v, banks %v", g, first.Banks)
	}
	second := r.proved()
	if g := second.Register; g.From != 2 || len(g.Tail) != 32 || g.Base.IsZero() {
		t.Errorf("register %+v", g)
	}
	// A broker that forgot is sent everything.
	r.double.mu.Lock()
	last := *r.double.host.Last
	r.double.host.Last = nil
	r.double.mu.Unlock()
	if g := r.proved().Register; g.From != 0 || len(g.Tail) != 4*32 {
		t.Errorf("to a broker that knows nothing: %+v", g)
	}
	// One that is behind is sent what it lacks.
	r.double.mu.Lock()
	r.double.host.Last = &last
	r.double.mu.Unlock()
	if g := r.proved().Register; g.From != 3 || len(g.Tail) != 2*32 {
		t.Errorf("to a broker that is behind: %+v", g)
	}
	r.end()
	// The end of the log is anchored, and the register goes on.
	if a := r.reopen(); r.agent.log.Anchor() == nil || r.agent.log.Anchor().Number != must(r.agent.log.Last()).Number {
		t.Errorf("%+v, the last anchored is %+v", a, r.agent.log.Anchor())
	}
	r.agent.log.Close()
	r.again()
	if b := r.proved(); b.Register.From != 5 || len(b.Register.Tail) != 3*32 || b.Header.Epoch != 2 {
		t.Errorf("after a restart of the agent: epoch %d, register %+v", b.Header.Epoch, b.Register)
	}
	if s, err := r.client().Status(t.Context()); err != nil || s.Anchor != evidence.AnchorNVLatch || s.AnchorFault != "" {
		t.Errorf("status %+v, %v", s, err)
	}
}

func must[A, B any](a A, _ B) A { return a }

// TestAnchorOverPower takes a running agent, and one that starts again, through
// what machines do.
func TestAnchorOverPower(t *testing.T) {
	for name, c := range map[string]struct {
		cycle  func(*softtpm.TPM) error
		reason string
		fresh  bool
	}{
		"reset":       {(*softtpm.TPM).Reset, reasonDiscontinuity, true},
		"power cut":   {(*softtpm.TPM).PowerCut, reasonDiscontinuity, true},
		"hibernation": {(*softtpm.TPM).Restart, reasonHibernate, true},
		"sleep":       {(*softtpm.TPM).Resume, reasonResume, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			device := r.withTPM()
			r.start()
			r.proved()
			r.proved()
			if err := c.cycle(device); err != nil {
				t.Fatal(err)
			}
			b := r.proved()
			if starts := r.epochs(); starts != "1 first 2 "+c.reason {
				t.Errorf("epochs %q", starts)
			}
			if fresh := b.Register.From == 0 && len(b.Register.Tail) == 2*32; fresh != c.fresh || b.Header.Anchor != evidence.AnchorNVLatch {
				t.Errorf("register %+v", b.Register)
			}
			r.end()
			if err := c.cycle(device); err != nil {
				t.Fatal(err)
			}
			r.again()
			b = r.proved()
			if fresh := b.Register.From == 0; fresh != c.fresh || b.Header.Anchor != evidence.AnchorNVLatch {
				t.Errorf("after an end of the agent: register %+v", b.Register)
			}
		})
	}
}

// TestOldSizeIsNoPosition: what the broker knows of the register before a reset
// is no place in the one after it, however long that is by then.
func TestOldSizeIsNoPosition(t *testing.T) {
	r := newRig(t)
	device := r.withTPM()
	r.start()
	r.proved()
	old := r.registerSize()
	r.end()
	if err := device.Reset(); err != nil {
		t.Fatal(err)
	}
	r.double.set(down)
	for range 4 {
		r.again()
		r.end()
	}
	r.double.set(nil)
	r.again()
	if b := r.proved(); b.Register.From != 0 || uint64(len(b.Register.Tail)/32) <= old {
		t.Errorf("the broker knew %d, register %+v", old, b.Register)
	}
}

// brokenRig is a rig with an agent that was anchored, and ended.
func brokenRig(t *testing.T) (*rig, *softtpm.TPM) {
	r := newRig(t)
	device := r.withTPM()
	r.double.policy.Anchors = append(slices.Clone(r.double.policy.Anchors), evidence.AnchorBroken)
	r.start()
	r.proved()
	r.proved()
	r.end()
	return r, device
}

// wantBroken holds the agent to saying that its register is broken, everywhere
// and until the TPM is reset.
func (r *rig) wantBroken(device *softtpm.TPM, why string) {
	r.t.Helper()
	b := r.proved()
	if b.Header.Anchor != evidence.AnchorBroken || b.Register != nil || len(b.Header.NVName) != 0 {
		r.t.Errorf("anchor %s, register %+v", b.Header.Anchor, b.Register)
	}
	s, err := r.client().Status(r.t.Context())
	if err != nil || s.Anchor != evidence.AnchorBroken || !strings.Contains(s.AnchorFault, why) {
		r.t.Errorf("status %q (%s), %v, want %q", s.Anchor, s.AnchorFault, err, why)
	}
	if !r.logged("level=ERROR") || !r.logged("does not bear the log out") {
		r.t.Error("it is not logged as an error")
	}
	for range 2 {
		r.end()
		r.again()
		if b := r.proved(); b.Header.Anchor != evidence.AnchorBroken {
			r.t.Errorf("started again: anchor %s", b.Header.Anchor)
		}
	}
	if err := device.Reset(); err != nil {
		r.t.Fatal(err)
	}
	if b := r.proved(); b.Header.Anchor != evidence.AnchorNVLatch || b.Register == nil || b.Register.From != 0 {
		r.t.Errorf("after a reset: anchor %s, register %+v", b.Header.Anchor, b.Register)
	}
}

// TestBrokenBetweenRuns: what others do to the register, or to what is written
// down about it, while no agent runs.
func TestBrokenBetweenRuns(t *testing.T) {
	journal := func(change func(path string, data []byte) error) func(*testing.T, *rig, *softtpm.TPM) {
		return func(t *testing.T, r *rig, _ *softtpm.TPM) {
			path := filepath.Join(r.state, logName, "anchor")
			data, err := os.ReadFile(path)
			if err == nil {
				err = change(path, data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }
	const record = 76
	for name, c := range map[string]struct {
		happens func(*testing.T, *rig, *softtpm.TPM)
		why     string
	}{
		"written": {func(t *testing.T, _ *rig, d *softtpm.TPM) {
			outside(t, d, func(g *tpm.LatchRegister) error { return g.Extend(t.Context(), evidence.Hash{6}) })
		}, "checkpoints make"},
		"removed": {func(t *testing.T, _ *rig, d *softtpm.TPM) {
			outside(t, d, func(g *tpm.LatchRegister) error { return g.Undefine(t.Context()) })
		}, "removed the register"},
		"removed and defined again": {func(t *testing.T, _ *rig, d *softtpm.TPM) {
			outside(t, d, func(g *tpm.LatchRegister) error {
				return errors.Join(g.Undefine(t.Context()), g.Define(t.Context()))
			})
		}, "removed the register"},
		"latch extended": {func(t *testing.T, _ *rig, d *softtpm.TPM) {
			if err := d.Measure(tpm.DefaultLatch, [32]byte{1}); err != nil {
				t.Fatal(err)
			}
		}, "closed by somebody else"},
		"journal removed":       {journal(func(path string, _ []byte) error { return os.Remove(path) }), "not on record"},
		"journal emptied":       {journal(func(path string, _ []byte) error { return write(path, nil) }), "not on record"},
		"journal put back by 2": {journal(func(path string, b []byte) error { return write(path, b[:len(b)-2*record]) }), "checkpoints make"},
		"journal put back by 1": {journal(func(path string, b []byte) error { return write(path, b[:len(b)-record]) }), "checkpoints make"},
		"journal torn":          {journal(func(path string, b []byte) error { return write(path, b[:len(b)-5]) }), "checkpoints make"},
		"journal damaged": {journal(func(path string, b []byte) error {
			b[512+20] ^= 1
			return write(path, b)
		}), "not on record"},
	} {
		t.Run(name, func(t *testing.T) {
			r, device := brokenRig(t)
			c.happens(t, r, device)
			r.again()
			r.wantBroken(device, c.why)
		})
	}
}

// TestBrokenBeforeTheFirstStart: somebody was there first.
func TestBrokenBeforeTheFirstStart(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*testing.T, *softtpm.TPM)
		why     string
	}{
		"latch in use": {func(t *testing.T, d *softtpm.TPM) {
			if err := d.Measure(tpm.DefaultLatch, [32]byte{1}); err != nil {
				t.Fatal(err)
			}
		}, "choose another with -latch-pcr"},
		"opened": {func(t *testing.T, d *softtpm.TPM) {
			outside(t, d, func(g *tpm.LatchRegister) error {
				return errors.Join(g.Define(t.Context()), g.Open(t.Context(), evidence.Hash{1}))
			})
		}, "opened by somebody else"},
		"opened and latched": {func(t *testing.T, d *softtpm.TPM) {
			host, err := readHost()
			if err != nil {
				t.Fatal(err)
			}
			outside(t, d, func(g *tpm.LatchRegister) error {
				return errors.Join(g.Define(t.Context()), g.Open(t.Context(), evidence.Hash{1}), g.CloseLatch(t.Context(), [16]byte(host.bootID)))
			})
		}, "not on record"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			device := r.withTPM()
			r.double.policy.Anchors = append(slices.Clone(r.double.policy.Anchors), evidence.AnchorBroken)
			c.happens(t, device)
			r.start()
			r.wantBroken(device, c.why)
		})
	}
}

// TestBrokenIsRefused: a broker that does not accept a broken register gets no
// other story.
func TestBrokenIsRefused(t *testing.T) {
	r := newRig(t)
	device := r.withTPM()
	r.double.expect = []string{"E_ANCHOR"}
	r.start()
	r.proved()
	outside(t, device, func(g *tpm.LatchRegister) error { return g.Extend(t.Context(), evidence.Hash{6}) })
	for range 2 {
		if b, err := r.prove(); err == nil || b != nil || !strings.Contains(err.Error(), "E_ANCHOR") {
			t.Errorf("%v", err)
		}
	}
	if len(r.double.codes) != 2 {
		t.Errorf("refused with %v: what was signed before it was noticed went out", r.double.codes)
	}
}

// TestAnchoredWhileNobodyAsks: what is committed gets into the register, and a
// reset of the TPM is noticed.
func TestAnchoredWhileNobodyAsks(t *testing.T) {
	r := newRig(t)
	device := r.withTPM()
	r.prepare = func(a *Agent) { a.idle = 20 * time.Millisecond }
	r.start()
	for pid := range uint32(3) {
		size := r.agent.log.Size()
		r.sensor.exec(pid+1, 1)
		eventually(t, "the exec to be logged", func() bool { return r.agent.log.Size() > size })
		if err := r.agent.heartbeat(); err != nil {
			t.Fatal(err)
		}
		last, _ := r.agent.log.Last()
		eventually(t, "it to be anchored", func() bool { return r.agent.log.Anchor().Number >= last.Number })
	}
	count := r.agent.log.Anchor().Count
	if err := device.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new epoch", func() bool { return r.epochs() == "1 first 2 "+reasonHibernate })
	eventually(t, "a new register", func() bool { return r.agent.log.Anchor().Count < count })
	outside(t, device, func(g *tpm.LatchRegister) error {
		state, err := g.State(t.Context())
		if err == nil && state.Stage() != tpm.StageClosed {
			eventually(t, "the latch to be closed", func() bool { state, err = g.State(t.Context()); return state.Stage() == tpm.StageClosed })
		}
		return err
	})
	if b := r.proved(); b.Header.Epoch != 2 || b.Header.Anchor != evidence.AnchorNVLatch {
		t.Errorf("epoch %d, anchor %s", b.Header.Epoch, b.Header.Anchor)
	}
}
