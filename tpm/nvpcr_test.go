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

const systemdIndex = 0x01d10200

// systemd262 is an index as version 262 defines one, but for the first branch
// of its policy: here anybody may do the first write, there a signed policy of
// the initrd may.
func systemd262() (public tpm2.TPMSNVPublic, initial evidence.Hash) {
	initial = policyStep(evidence.Hash{}, tpm2.TPMCCPolicyNvWritten, []byte{0})
	written := policyStep(evidence.Hash{}, tpm2.TPMCCPolicyNvWritten, []byte{1})
	policy := policyOr([]evidence.Hash{initial, written})
	return tpm2.TPMSNVPublic{
		NVIndex: systemdIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: 32, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy[:]},
		Attributes: tpm2.TPMANV{NT: tpm2.TPMNTExtend, PolicyWrite: true, OwnerRead: true, AuthRead: true, ClearSTClear: true, Orderly: true},
	}, initial
}

// initialize does the first write to an index by its first branch.
func initialize(t *testing.T, dev *Device, initial evidence.Hash) {
	t.Helper()
	session, _, err := tpm2.PolicySession(call{t.Context(), dev.bus}, tpm2.TPMAlgSHA256, 16)
	must(t, err)
	_, err = run(t.Context(), dev.bus, tpm2.PolicyNVWritten{PolicySession: session.Handle()})
	must(t, err)
	written := policyStep(evidence.Hash{}, tpm2.TPMCCPolicyNvWritten, []byte{1})
	_, err = run(t.Context(), dev.bus, tpm2.PolicyOr{PolicySession: session.Handle(), PHashList: tpm2.TPMLDigest{
		Digests: []tpm2.TPM2BDigest{{Buffer: initial[:]}, {Buffer: written[:]}}}})
	must(t, err, nvExtend(t.Context(), dev.bus, systemdIndex, session.Handle(), make([]byte, 32)))
}

func TestNvPCR(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	ak := createAK(t, dev, "1")
	public, initial := systemd262()
	if _, err := dev.NvPCR(t.Context(), systemdIndex, initial[:]); !errors.Is(err, ErrNoRegister) {
		t.Errorf("not defined: %v", err)
	}
	define(t, dev, public)
	if _, err := dev.NvPCR(t.Context(), systemdIndex, initial[:]); !errors.Is(err, ErrNoRegister) {
		t.Errorf("not initialized: %v", err)
	}
	initialize(t, dev, initial)
	r, err := dev.NvPCR(t.Context(), systemdIndex, initial[:])
	must(t, err, r.Extend(t.Context(), evidence.Hash{1}), r.Extend(t.Context(), evidence.Hash{2}))
	want := extended(extended(extended(evidence.Hash{}, evidence.Hash{}), evidence.Hash{1}), evidence.Hash{2})
	if value, err := r.Read(t.Context()); err != nil || value != want {
		t.Errorf("register is %x, want %x: %v", value, want, err)
	}
	_, value, err := r.Certify(t.Context(), ak, evidence.Hash{9})
	if err != nil || value != want {
		t.Errorf("certified %x, want %x: %v", value, want, err)
	}
	public.Attributes.Written = true
	if name := nvName(tpm2.Marshal(public)); !bytes.Equal(r.Name(), name) || r.Index() != systemdIndex {
		t.Errorf("name %x, want %x", r.Name(), name)
	}
	for _, other := range [][]byte{nil, {}, initial[:31], make([]byte, 32)} {
		if _, err := dev.NvPCR(t.Context(), systemdIndex, other); err == nil {
			t.Errorf("took the first branch %x", other)
		}
	}
}

func TestNvPCROfAnEarlierSystemd(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	ak := createAK(t, dev, "1")
	public, _ := systemd262()
	public.AuthPolicy.Buffer = nil
	public.Attributes.PolicyWrite, public.Attributes.AuthWrite, public.Attributes.OwnerWrite = false, true, true
	define(t, dev, public)
	must(t, nvExtend(t.Context(), dev.bus, systemdIndex, tpm2.TPMRSPW, make([]byte, 32)))
	r, err := dev.NvPCR(t.Context(), systemdIndex, nil)
	must(t, err, r.Extend(t.Context(), evidence.Hash{1}))
	want := extended(extended(evidence.Hash{}, evidence.Hash{}), evidence.Hash{1})
	if _, value, err := r.Certify(t.Context(), ak, evidence.Hash{9}); err != nil || value != want {
		t.Errorf("certified %x, want %x: %v", value, want, err)
	}
}

func TestNvPCRRefuses(t *testing.T) {
	for name, change := range map[string]func(*tpm2.TPMSNVPublic){
		"ordinary":   func(p *tpm2.TPMSNVPublic) { p.Attributes.NT = tpm2.TPMNTOrdinary },
		"SHA-384":    func(p *tpm2.TPMSNVPublic) { p.NameAlg, p.DataSize, p.AuthPolicy.Buffer = tpm2.TPMAlgSHA384, 48, nil },
		"unreadable": func(p *tpm2.TPMSNVPublic) { p.Attributes.AuthRead = false },
		"not ours":   func(p *tpm2.TPMSNVPublic) { p.Attributes.AuthWrite = false },
	} {
		dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
		public, _ := systemd262()
		public.Attributes.AuthWrite, public.Attributes.OwnerWrite = true, true
		change(&public)
		define(t, dev, public)
		area, err := dev.area(t.Context(), systemdIndex)
		must(t, err)
		if public.Attributes.NT == tpm2.TPMNTOrdinary {
			_, err = run(t.Context(), dev.bus, tpm2.NVWrite{AuthHandle: owner(),
				NVIndex: tpm2.NamedHandle{Handle: systemdIndex, Name: tpm2.TPM2BName{Buffer: area.name}},
				Data:    tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 32)}})
			must(t, err)
		} else {
			_ = nvExtend(t.Context(), dev.bus, systemdIndex, tpm2.TPMRSPW, make([]byte, 32))
			if name == "not ours" {
				_, initial := systemd262()
				initialize(t, dev, initial)
			}
		}
		if _, err := dev.NvPCR(t.Context(), systemdIndex, nil); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
