// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

var bootID = [16]byte{0xb0, 0x07}

// register looks at a register and holds its stage against the one expected.
func register(t testing.TB, dev *Device, opts RegisterOptions, want Stage) (*LatchRegister, RegisterState) {
	t.Helper()
	r, state, err := dev.Register(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := state.Stage(); got != want {
		t.Fatalf("register is %s, want %s: %+v", got, want, state)
	}
	return r, state
}

// latched is a register that was defined, opened with c and latched.
func latched(t testing.TB, dev *Device, opts RegisterOptions, c evidence.Hash) *LatchRegister {
	t.Helper()
	r, _ := register(t, dev, opts, StageAbsent)
	must(t, r.Define(t.Context()), r.Open(t.Context(), c), r.CloseLatch(t.Context(), bootID))
	return r
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// After any number of steps a new Device on the same TPM can tell what has
// been done and what is next.
func TestEveryStepIsSeenAfterwards(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	var value evidence.Hash
	steps := []struct {
		before Stage
		do     func(*LatchRegister) error
	}{
		{StageAbsent, func(r *LatchRegister) error { return r.Define(t.Context()) }},
		{StageDefined, func(r *LatchRegister) error {
			value = extended(value, evidence.Hash{1})
			return r.Open(t.Context(), evidence.Hash{1})
		}},
		{StageOpen, func(r *LatchRegister) error { return r.CloseLatch(t.Context(), bootID) }},
		{StageClosed, func(r *LatchRegister) error {
			value = extended(value, evidence.Hash{2})
			return r.Extend(t.Context(), evidence.Hash{2})
		}},
		{StageClosed, func(r *LatchRegister) error {
			value = extended(value, evidence.Hash{3})
			return r.Extend(t.Context(), evidence.Hash{3})
		}},
		{StageClosed, func(r *LatchRegister) error { return r.Undefine(t.Context()) }},
		{StageLost, func(r *LatchRegister) error { return r.Undefine(t.Context()) }},
	}
	for i, step := range steps {
		dev, err := Open(chip.RawPath())
		if err != nil {
			t.Fatal(err)
		}
		r, state := register(t, dev, RegisterOptions{}, step.before)
		if state.Written && state.Value != value {
			t.Errorf("before step %d the register is %x, want %x", i, state.Value, value)
		}
		if got, want := state.ClosedIn(bootID), step.before == StageClosed; got != want {
			t.Errorf("before step %d: closed in this boot is %v, want %v", i, got, want)
		}
		if state.ClosedIn([16]byte{1}) {
			t.Errorf("before step %d: closed in another boot", i)
		}
		if state.Defined && state.Written != bytes.Equal(state.Name, r.Name()) {
			t.Errorf("before step %d: name %x, written %v", i, state.Name, state.Written)
		}
		if err := step.do(r); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		must(t, dev.Close())
		if left := transient(t, chip.RawPath()); len(left) != 0 {
			t.Fatalf("step %d left %x loaded", i, left)
		}
	}
}

func TestCertifyRegister(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
	must(t, r.Extend(t.Context(), evidence.Hash{2}))
	want := extended(extended(evidence.Hash{}, evidence.Hash{1}), evidence.Hash{2})
	if value, err := r.Read(t.Context()); err != nil || value != want {
		t.Fatalf("register is %x, want %x: %v", value, want, err)
	}
	q := evidence.Hash{7, 7}
	certified, value, err := r.Certify(t.Context(), ak, q)
	if err != nil || value != want {
		t.Fatalf("certified %x, want %x: %v", value, want, err)
	}
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](certified.Attest)
	if err != nil || a.Type != tpm2.TPMSTAttestNV {
		t.Fatalf("%+v %v", a, err)
	}
	// What is certified must be held to all that a host can see.
	for name, change := range map[string]struct {
		kind   tpm2.TPMST
		q      evidence.Hash
		reg    *Register
		attest []byte
	}{
		"other question": {q: evidence.Hash{7}, reg: &r.Register, attest: certified.Attest},
		"other register": {q: q, reg: &Register{name: r.unwritten(13)}, attest: certified.Attest},
		"trailing byte":  {q: q, reg: &r.Register, attest: append(bytes.Clone(certified.Attest), 0)},
		"other magic":    {q: q, reg: &r.Register, attest: append([]byte{0}, certified.Attest[1:]...)},
	} {
		if _, err := change.reg.checkCertified(ak, change.attest, change.q); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := r.checkCertified(createAK(t, dev, "2"), certified.Attest, q); err == nil {
		t.Error("took what another key signed")
	}
	if quote, err := ak.Quote(t.Context(), q); err != nil {
		t.Fatal(err)
	} else if _, err := r.checkCertified(ak, quote.Attest, q); err == nil {
		t.Error("took a quote")
	}
	if _, err := ak.checkAttest(certified.Attest, q); err == nil {
		t.Error("took a certified register for a quote")
	}
}
