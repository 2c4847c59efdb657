// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// What a register is made of where nothing else is said. The index is in the
// range that the TCG registry of reserved handles (section 2.2) leaves to the
// owner, 0x01800000 to 0x01bfffff; its last two bytes spell "jr". systemd's
// NvPCRs are at 0x01d10200, other programs known to take fixed indexes of the
// owner's stay below 0x01890000. Changing the default changes every name.
const (
	DefaultIndex = 0x01906a72
	DefaultLatch = 13 // systemd's system extensions, absent on most hosts

	ownerFirst = 0x01800000
	ownerLast  = 0x01bfffff
)

// RegisterOptions choose a register. The zero value is the default one.
type RegisterOptions struct {
	Index uint32 // NV index, 0x01800000 to 0x01bfffff
	Latch uint8  // PCR that gates the first write: 8, 9, 11 to 15, zero until then
}

// LatchRegister is a register whose first write is possible only while a
// static PCR, the latch, is still zero. Extending the latch after that write
// makes it the last first write until the next TPM reset: a register that was
// undefined and defined anew, bit for bit, stays unwritten, and the name of an
// unwritten index is another one.
//
//	branch 1   = PolicyPCR(sha256: latch = 32 zero bytes) PolicyNvWritten(NO)  PolicyCommandCode(TPM2_NV_Extend)
//	branch 2   = PolicyNvWritten(YES) PolicyCommandCode(TPM2_NV_Extend)
//	authPolicy = PolicyOR(branch 1, branch 2)
//
// The index is of type extend, 32 bytes, nameAlg SHA-256, with the attributes
// policywrite ownerread authread no_da orderly clear_stclear. clear_stclear
// makes each TPM2_Startup(CLEAR) begin anew; orderly spares the NV memory.
// There is no key and no secret in it, so anybody can compute its name.
//
// Each method is one step. A process that dies between two of them finds out
// by [Device.Register] where it stood.
type LatchRegister struct {
	Register
	latch uint8
}

// latchPolicy is what branch 1 wants of the latch.
type latchPolicy struct {
	pcr    uint8
	digest evidence.Hash // SHA-256(32 zero bytes)
}

// RegisterState is what was found at a register's NV index and in its latch.
type RegisterState struct {
	Defined bool          // there is something at the index
	Ours    bool          // and it is the register
	Written bool          // and it has been opened since the TPM started
	Value   evidence.Hash // of a register that is Written
	Name    []byte        // of what is at the index, as it is now
	Latch   evidence.Hash // value of the latch PCR
}

// Stage is how far a register has come since the TPM started.
type Stage string

// The stages, in order. StageForeign and StageLost are not on the way.
const (
	StageAbsent  Stage = "absent"  // next: Define
	StageDefined Stage = "defined" // next: Open
	StageOpen    Stage = "open"    // written and the latch still zero; next: CloseLatch
	StageClosed  Stage = "closed"  // written and latched: Extend
	StageForeign Stage = "foreign" // something else is at the index
	StageLost    Stage = "lost"    // not written, and the latch is no longer zero: nothing to be done before a TPM reset
)

// Stage says how far the register has come.
func (s RegisterState) Stage() Stage {
	switch latched := s.Latch != (evidence.Hash{}); {
	case s.Ours && s.Written && latched:
		return StageClosed
	case s.Ours && s.Written:
		return StageOpen
	case latched:
		return StageLost
	case s.Ours:
		return StageDefined
	case s.Defined:
		return StageForeign
	}
	return StageAbsent
}

// ClosedIn tells whether the latch was closed once, in the boot with this id,
// after the register had been opened, and has not been extended since.
func (s RegisterState) ClosedIn(bootID [16]byte) bool {
	return s.Stage() == StageClosed && s.Latch == extended(evidence.Hash{}, evidence.LatchDigest(s.Name, bootID[:]))
}

// RegisterName is the name of the register at index with this latch PCR once
// it has been opened: what TPM2_NV_Certify reports of it. It opens no door.
//
//	Name = TPM_ALG_SHA256 || SHA-256(TPMS_NV_PUBLIC)
func RegisterName(index uint32, latch uint8) []byte {
	return nvName(tpm2.Marshal(registerPublic(tpm2.TPMHandle(index), latch, true)))
}

// registerPublic is the public area of a register.
func registerPublic(index tpm2.TPMHandle, latch uint8, written bool) tpm2.TPMSNVPublic {
	branches := registerBranches(latch)
	policy := policyOr(branches)
	return tpm2.TPMSNVPublic{
		NVIndex: index,
		NameAlg: tpm2.TPMAlgSHA256,
		Attributes: tpm2.TPMANV{
			NT:           tpm2.TPMNTExtend,
			PolicyWrite:  true,
			OwnerRead:    true,
			AuthRead:     true,
			NoDA:         true,
			Orderly:      true,
			ClearSTClear: true,
			Written:      written,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy[:]},
		DataSize:   sha256.Size,
	}
}

// registerBranches are the two branches above.
func registerBranches(latch uint8) []evidence.Hash {
	code := binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMCCNVExtend))
	zeros := latchZero(latch)
	first := policyStep(evidence.Hash{}, tpm2.TPMCCPolicyPCR, append(tpm2.Marshal(selection([]uint8{latch})), zeros.digest[:]...))
	first = policyStep(first, tpm2.TPMCCPolicyNvWritten, []byte{0})
	first = policyStep(first, tpm2.TPMCCPolicyCommandCode, code)
	later := policyStep(evidence.Hash{}, tpm2.TPMCCPolicyNvWritten, []byte{1})
	later = policyStep(later, tpm2.TPMCCPolicyCommandCode, code)
	return []evidence.Hash{first, later}
}

func latchZero(latch uint8) *latchPolicy {
	return &latchPolicy{pcr: latch, digest: sha256.Sum256(make([]byte, sha256.Size))}
}

// policyStep is what a policy command makes of a policy (part 3 section 23).
//
//	SHA-256(policy || command code || parameters)
func policyStep(policy evidence.Hash, code tpm2.TPMCC, parameters []byte) evidence.Hash {
	b := binary.BigEndian.AppendUint32(policy[:], uint32(code))
	return sha256.Sum256(append(b, parameters...))
}

// policyOr is PolicyOR over branches (part 3 section 23.6).
//
//	SHA-256(32 zero bytes || TPM_CC_PolicyOR || branch 1 || ... || branch n)
func policyOr(branches []evidence.Hash) evidence.Hash {
	var all []byte
	for _, branch := range branches {
		all = append(all, branch[:]...)
	}
	return policyStep(evidence.Hash{}, tpm2.TPMCCPolicyOR, all)
}

// Register finds the register of opts and says in which state it is. It writes
// nothing.
func (d *Device) Register(ctx context.Context, opts RegisterOptions) (*LatchRegister, RegisterState, error) {
	if opts.Index == 0 {
		opts.Index = DefaultIndex
	}
	if opts.Latch == 0 {
		opts.Latch = DefaultLatch
	}
	if opts.Index < ownerFirst || opts.Index > ownerLast {
		return nil, RegisterState{}, fmt.Errorf("register at NV index 0x%x, want 0x%x to 0x%x", opts.Index, ownerFirst, ownerLast)
	}
	if !mayLatch(opts.Latch) {
		return nil, RegisterState{}, fmt.Errorf("latch PCR %d, want 8, 9 or 11 to 15", opts.Latch)
	}
	branches := registerBranches(opts.Latch)
	r := &LatchRegister{latch: opts.Latch, Register: Register{
		dev: d, index: tpm2.TPMHandle(opts.Index), name: RegisterName(opts.Index, opts.Latch),
		write: writer{branches: branches, command: true},
	}}
	state, err := r.State(ctx)
	return r, state, err
}

// mayLatch tells whether a PCR may be a latch: 0 to 7 are the firmware's, 10 is
// IMA's, and those from 16 on can be reset.
func mayLatch(pcr uint8) bool { return pcr >= 8 && pcr <= 15 && pcr != 10 }

// Latch is the PCR that gates the first write.
func (r *LatchRegister) Latch() uint8 { return r.latch }

// State looks at the register and its latch, and writes nothing.
func (r *LatchRegister) State(ctx context.Context) (RegisterState, error) {
	latch, err := r.readLatch(ctx)
	if err != nil {
		return RegisterState{}, err
	}
	state := RegisterState{Latch: latch}
	area, err := r.dev.area(ctx, r.index)
	if errors.Is(err, errNoIndex) {
		return state, nil
	}
	if err != nil {
		return RegisterState{}, err
	}
	state.Defined, state.Name = true, area.name
	switch {
	case bytes.Equal(area.name, r.name):
		state.Ours, state.Written = true, true
		state.Value, err = r.Read(ctx)
	case bytes.Equal(area.name, r.unwritten(r.latch)):
		state.Ours = true
	}
	return state, err
}

// unwritten is the name of an index that has never been written.
func (r *LatchRegister) unwritten(latch uint8) []byte {
	return nvName(tpm2.Marshal(registerPublic(r.index, latch, false)))
}

func (r *LatchRegister) readLatch(ctx context.Context) (evidence.Hash, error) {
	pcrs, err := r.dev.ReadPCRs(ctx, []uint8{r.latch})
	if err != nil {
		return evidence.Hash{}, err
	}
	return evidence.Hash(pcrs[0].Digest), nil
}
