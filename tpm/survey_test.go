// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/softtpm"
)

func survey(t *testing.T, dev *Device) Survey {
	t.Helper()
	s, err := dev.Survey(t.Context())
	must(t, err)
	return s
}

func TestSurvey(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Banks: "sha1,sha256", Firmware: true})
	must(t, chip.Measure(11, sha256.Sum256(nil)))
	dev := open(t, chip.Path())
	before := survey(t, dev)
	if len(before.Banks) != 2 || before.Banks[0].Name != "sha1" || before.Banks[1].Name != "sha256" || len(before.Banks[1].PCRs) != 24 {
		t.Errorf("banks %+v", before.Banks)
	}
	// The boot uses 8, 9 and 14; 10 is never a latch.
	if want := []uint8{12, 13, 15}; !slices.Equal(before.Latches, want) {
		t.Errorf("latches %d, want %d", before.Latches, want)
	}
	if len(before.PCRs) != 24 || before.Properties.Manufacturer != "IBM" || !before.Clock.Safe {
		t.Errorf("%+v", before)
	}
	if h := before.Hierarchy; h.OwnerPassword || h.EndorsementPassword || h.LockoutPassword || !h.OwnerEnabled || !h.EndorsementEnabled {
		t.Errorf("%+v", h)
	}
	if r := before.Room; r.Transient != 0 || r.Sessions != 0 || r.TransientLeft < 1 || r.SessionsLeft < 1 || r.LargestIndex < 32 || r.Indexes != int64(len(before.Indexes)) {
		t.Errorf("%+v", r)
	}
	// Looking changes nothing. The clock goes on by itself.
	after := survey(t, dev)
	after.Clock = before.Clock
	if !reflect.DeepEqual(before, after) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}

	createAK(t, dev, "1")
	r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
	_, _, err := tpm2.HMACSession(call{t.Context(), dev.bus}, tpm2.TPMAlgSHA256, 16)
	must(t, err)
	_, err = run(t.Context(), dev.bus, tpm2.HierarchyChangeAuth{AuthHandle: owner(), NewAuth: tpm2.TPM2BAuth{Buffer: []byte("x")}})
	must(t, err)
	s := survey(t, dev)
	if s.Room.Transient != 1 || s.Room.Sessions != 1 || !s.Hierarchy.OwnerPassword || slices.Contains(s.Latches, 13) {
		t.Errorf("%+v", s)
	}
	i := slices.IndexFunc(s.Indexes, func(i Index) bool { return i.Handle == DefaultIndex })
	if i < 0 {
		t.Fatalf("no register among %+v", s.Indexes)
	}
	if x := s.Indexes[i]; x.Kind != "extend" || x.Size != 32 || !x.Written || !slices.Equal(x.Name, r.Name()) || x.Err != nil {
		t.Errorf("%+v", x)
	}
	if err := r.Undefine(t.Context()); err == nil || !strings.Contains(err.Error(), "tpm2_changeauth -c owner") {
		t.Errorf("the owner's password is in the way: %v", err)
	}
}

func TestSurveyWithoutTheBank(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Banks: "sha1"}).Path())
	if s := survey(t, dev); s.PCRs != nil || s.Latches != nil || len(s.Banks) != 1 {
		t.Errorf("%+v", s)
	}
}

func TestSurveyOfALockedTPM(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	public := tpm2.TPMSNVPublic{NVIndex: DefaultIndex + 1, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{AuthWrite: true, AuthRead: true}}
	_, err := run(t.Context(), dev.bus, tpm2.NVDefineSpace{AuthHandle: owner(), Auth: tpm2.TPM2BAuth{Buffer: []byte("right")}, PublicInfo: tpm2.New2B(public)})
	must(t, err)
	area, err := dev.area(t.Context(), public.NVIndex)
	must(t, err)
	for range 100 {
		_, err = run(t.Context(), dev.bus, tpm2.NVWrite{
			AuthHandle: tpm2.AuthHandle{Handle: public.NVIndex, Name: tpm2.TPM2BName{Buffer: area.name}, Auth: tpm2.PasswordAuth([]byte("wrong"))},
			NVIndex:    tpm2.NamedHandle{Handle: public.NVIndex, Name: tpm2.TPM2BName{Buffer: area.name}},
			Data:       tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 8)}})
		if s := survey(t, dev); s.Lockout.Active {
			if s.Lockout.Failures < s.Lockout.Limit || s.Lockout.Limit < 1 {
				t.Errorf("%+v", s.Lockout)
			}
			// Keys and registers of this package go on.
			ak := createAK(t, dev, "1")
			r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
			must(t, r.Extend(t.Context(), evidence.Hash{2}))
			_, _, err := r.Certify(t.Context(), ak, evidence.Hash{3})
			must(t, err)
			return
		}
	}
	t.Fatalf("never locked: %v", err)
}

// A TPM that goes on listing handles is not listened to for ever.
func TestHandlesEnd(t *testing.T) {
	next := uint32(indexFirst)
	l := &between{nil, func(tpm2.TPMCC) []byte {
		body := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0, 1, 0, 0, 0, 1}, next)
		next++
		return answer(tpm2.TPMSTNoSessions, tpm2.TPMRCSuccess, body...)
	}}
	dev, _ := scripted(l)
	if _, err := dev.handles(t.Context(), indexFirst, indexLast); err == nil || next > indexFirst+maxListed+1 {
		t.Errorf("%d handles: %v", next-indexFirst, err)
	}
}

// An answer about another index, or under a name that is not that of its public
// area, is not taken for one about the index asked for.
func TestAreaOfAnotherIndex(t *testing.T) {
	dev := open(t, startTPM(t, softtpm.Options{Blank: true}).Path())
	r := latched(t, dev, RegisterOptions{}, evidence.Hash{1})
	latched(t, dev, RegisterOptions{Index: DefaultIndex + 1, Latch: 14}, evidence.Hash{1})
	inner := dev.bus.link
	for name, change := range map[string]func(command, answer []byte){
		"other index": func(command, _ []byte) { command[len(command)-1]++ },
		"other name":  func(_, answer []byte) { answer[len(answer)-1] ^= 1 },
	} {
		dev.bus.link = linkFunc{inner, func(command []byte) ([]byte, error) {
			if commandCode(command) != tpm2.TPMCCNVReadPublic {
				return inner.exchange(command)
			}
			command = slices.Clone(command)
			change(command, make([]byte, 1))
			answer, err := inner.exchange(command)
			change(make([]byte, 1), answer)
			return answer, err
		}}
		if _, err := r.State(t.Context()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	dev.bus.link = inner
}
