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

// define makes an NV index of any kind at index.
func define(t *testing.T, dev *Device, public tpm2.TPMSNVPublic) {
	t.Helper()
	_, err := run(t.Context(), dev.bus, tpm2.NVDefineSpace{AuthHandle: owner(), PublicInfo: tpm2.New2B(public)})
	must(t, err)
}

// refusedAll holds that r can neither be opened, nor extended, nor certified.
func refusedAll(t *testing.T, r *LatchRegister, ak *AK, why string) {
	t.Helper()
	if err := r.Open(t.Context(), evidence.Hash{9}); !errors.Is(err, ErrRegister) {
		t.Errorf("%s: Open: %v", why, err)
	}
	if err := r.Extend(t.Context(), evidence.Hash{9}); !errors.Is(err, ErrRegister) {
		t.Errorf("%s: Extend: %v", why, err)
	}
	if _, _, err := r.Certify(t.Context(), ak, evidence.Hash{9}); !errors.Is(err, ErrRegister) {
		t.Errorf("%s: Certify: %v", why, err)
	}
}

func TestRegisterInAWrongOrder(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	ak := createAK(t, dev, "1")
	r, _ := register(t, dev, RegisterOptions{}, StageAbsent)
	refusedAll(t, r, ak, "absent")
	if _, err := r.Read(t.Context()); !errors.Is(err, ErrRegister) {
		t.Errorf("read an absent register: %v", err)
	}
	must(t, r.Undefine(t.Context()), r.Define(t.Context()))
	if err := r.Define(t.Context()); !errors.Is(err, ErrRegister) {
		t.Errorf("defined twice: %v", err)
	}
	if err := r.Extend(t.Context(), evidence.Hash{1}); !errors.Is(err, ErrRegister) {
		t.Errorf("the branch for a written register did the first write: %v", err)
	}
	must(t, r.Open(t.Context(), evidence.Hash{1}))
	if err := r.Open(t.Context(), evidence.Hash{1}); !errors.Is(err, ErrRegister) {
		t.Errorf("the branch for the first write did a second: %v", err)
	}
	must(t, r.CloseLatch(t.Context(), bootID), r.CloseLatch(t.Context(), bootID))
	if err := r.CloseLatch(t.Context(), [16]byte{1}); !errors.Is(err, ErrRegister) {
		t.Errorf("closed for two boots: %v", err)
	}
	if err := r.Open(t.Context(), evidence.Hash{1}); !errors.Is(err, ErrRegister) {
		t.Errorf("opened behind the latch: %v", err)
	}
	if value, err := r.Read(t.Context()); err != nil || value != extended(evidence.Hash{}, evidence.Hash{1}) {
		t.Errorf("register is %x: %v", value, err)
	}
}

// The attack that the latch is for: undefine, define the same again, and write
// a history of one's own.
func TestRedefinedRegisterStaysUnwritten(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	ak := createAK(t, dev, "1")
	r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
	must(t, r.Undefine(t.Context()), r.Define(t.Context()))
	_, state := register(t, dev, RegisterOptions{}, StageLost)
	if !state.Ours || state.Written || bytes.Equal(state.Name, r.Name()) {
		t.Errorf("%+v", state)
	}
	refusedAll(t, r, ak, "defined anew")
	// With another latch it can be opened, and has another name.
	must(t, r.Undefine(t.Context()))
	other := latched(t, dev, RegisterOptions{Latch: 14}, evidence.Hash{1})
	if bytes.Equal(other.Name(), r.Name()) {
		t.Error("the name does not tell the latch")
	}
	if _, _, err := r.Certify(t.Context(), ak, evidence.Hash{9}); !errors.Is(err, ErrRegister) {
		t.Errorf("certified a register of another latch: %v", err)
	}
	// That one may go: it is a register, whatever latch is configured now.
	must(t, r.Undefine(t.Context()))
}

// Any other way to define the index that makes it writable makes another name.
func TestForeignIndex(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	ak := createAK(t, dev, "1")
	r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
	must(t, r.Undefine(t.Context()))
	for name, change := range map[string]func(*tpm2.TPMSNVPublic){
		"authwrite":    func(p *tpm2.TPMSNVPublic) { p.Attributes.AuthWrite = true },
		"ownerwrite":   func(p *tpm2.TPMSNVPublic) { p.Attributes.OwnerWrite = true },
		"ordinary":     func(p *tpm2.TPMSNVPublic) { p.Attributes.NT = tpm2.TPMNTOrdinary; p.Attributes.OwnerWrite = true },
		"survives":     func(p *tpm2.TPMSNVPublic) { p.Attributes.ClearSTClear = false; p.Attributes.AuthWrite = true },
		"other policy": func(p *tpm2.TPMSNVPublic) { p.AuthPolicy.Buffer = make([]byte, 32) },
		"SHA-384":      func(p *tpm2.TPMSNVPublic) { p.NameAlg = tpm2.TPMAlgSHA384; p.DataSize = 48; p.AuthPolicy.Buffer = nil },
	} {
		public := registerPublic(r.index, r.latch, false)
		change(&public)
		define(t, dev, public)
		if public.Attributes.AuthWrite {
			must(t, nvExtend(t.Context(), dev.bus, r.index, tpm2.TPMRSPW, make([]byte, 32)))
		}
		_, state := register(t, dev, RegisterOptions{}, StageLost)
		if state.Ours || state.Written || !state.Defined || bytes.Equal(state.Name, r.Name()) {
			t.Errorf("%s: %+v", name, state)
		}
		if public.Attributes.AuthWrite {
			// Its password lets anybody write, but not under the register's name.
			if _, _, err := r.Certify(t.Context(), ak, evidence.Hash{9}); !errors.Is(err, ErrRegister) {
				t.Errorf("%s: Certify: %v", name, err)
			}
		} else {
			refusedAll(t, r, ak, name)
		}
		if err := r.Undefine(t.Context()); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: Undefine: %v", name, err)
		}
		_, err := run(t.Context(), dev.bus, tpm2.NVUndefineSpace{
			AuthHandle: owner(), NVIndex: tpm2.NamedHandle{Handle: r.index, Name: tpm2.TPM2BName{Buffer: state.Name}}})
		must(t, err)
	}
	fresh := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	define(t, fresh, tpm2.TPMSNVPublic{NVIndex: r.index, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true}})
	register(t, fresh, RegisterOptions{}, StageForeign)
}

// What becomes of register and latch when the TPM starts again.
func TestRegisterOverPowerCycles(t *testing.T) {
	for name, c := range map[string]struct {
		cycle func(*softtpm.TPM) error
		want  Stage
	}{
		"reset":     {(*softtpm.TPM).Reset, StageDefined},
		"power cut": {(*softtpm.TPM).PowerCut, StageDefined},
		"hibernate": {(*softtpm.TPM).Restart, StageDefined},
		"sleep":     {(*softtpm.TPM).Resume, StageClosed},
	} {
		t.Run(name, func(t *testing.T) {
			chip := startTPM(t, softtpm.Options{Blank: true, Firmware: true})
			dev, err := Open(chip.Path())
			must(t, err)
			r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
			must(t, r.Extend(t.Context(), evidence.Hash{2}))
			value, err := r.Read(t.Context())
			must(t, err, dev.Close(), c.cycle(chip))

			dev = open(t, chip.Path())
			r, state := register(t, dev, RegisterOptions{}, c.want)
			if c.want == StageClosed {
				if state.Value != value || !state.ClosedIn(bootID) {
					t.Errorf("after: %+v, want the value %x", state, value)
				}
				must(t, r.Extend(t.Context(), evidence.Hash{3}))
				return
			}
			if _, err := r.Read(t.Context()); !errors.Is(err, ErrRegister) {
				t.Errorf("the value of before can be read: %v", err)
			}
			must(t, r.Open(t.Context(), evidence.Hash{4}), r.CloseLatch(t.Context(), bootID))
			if after, err := r.Read(t.Context()); err != nil || after != extended(evidence.Hash{}, evidence.Hash{4}) {
				t.Errorf("the register went on from %x: %x %v", value, after, err)
			}
		})
	}
}

// Every PCR that may be a latch cannot be put back to zero; those that can be
// may not be one.
func TestLatchCannotBeReset(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	for pcr := range uint8(24) {
		if pcr == 0 {
			continue // means the default
		}
		_, err := run(t.Context(), dev.bus, tpm2.PCRReset{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)}})
		resettable := err == nil
		if err != nil && !errors.Is(err, tpm2.TPMRCLocality) {
			t.Fatal(err)
		}
		_, _, err = dev.Register(t.Context(), RegisterOptions{Latch: pcr})
		if taken := err == nil; taken && resettable || taken != (pcr == 8 || pcr == 9 || pcr >= 11 && pcr <= 15) {
			t.Errorf("latch PCR %d taken: %v, resettable: %v", pcr, taken, resettable)
		}
	}
	for _, index := range []uint32{1, 0x017fffff, 0x01c00000, 0x01d10200, 0x81000001} {
		if _, _, err := dev.Register(t.Context(), RegisterOptions{Index: index}); err == nil {
			t.Errorf("took index 0x%x", index)
		}
	}
}
