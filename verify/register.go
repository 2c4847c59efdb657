// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/jurat-dev/jurat/evidence"
)

// anchor accepts the modes that the policy accepts, and checks the register of
// those that have one.
func (v *verification) anchor() *Rejection {
	h := v.b.Header
	if !slices.Contains(v.policy.Tiers, h.Tier) {
		return reject(codeTier, "header tier", fmt.Sprint(v.policy.Tiers), quoted(h.Tier))
	}
	if !slices.Contains(v.policy.Anchors, h.Anchor) { // which names known modes alone
		return reject(codeAnchor, "header anchor", fmt.Sprint(v.policy.Anchors), quoted(h.Anchor))
	}
	bound := h.Anchor == evidence.AnchorNVLatch || h.Anchor == evidence.AnchorNvPCR
	if bound != (v.b.Register != nil) || bound != (len(h.NVName) != 0) {
		return reject(codeRegister, "register", fmt.Sprintf("certified register and its name: %v, as the anchor is %s", bound, h.Anchor),
			fmt.Sprintf("register: %v, name of %d bytes", v.b.Register != nil, len(h.NVName)))
	}
	if !bound {
		return nil
	}
	if rejection := v.registerName(); rejection != nil {
		return rejection
	}
	return v.registerValue()
}

// registerName wants an index that could only be written the way the mode
// promises: its name says so.
func (v *verification) registerName() *Rejection {
	h, r := v.b.Header, v.b.Register
	if h.Anchor == evidence.AnchorNvPCR {
		if !slices.ContainsFunc(v.policy.NvPCRs, func(name evidence.Bytes) bool { return bytes.Equal(name, h.NVName) }) {
			return reject(codeRegisterName, "header nv_name", "one of the NvPCRs of the policy", hexOf(h.NVName))
		}
		if r.Latch != 0 {
			return reject(codeRegister, "register latch", "0, as the anchor is "+h.Anchor, number(uint32(r.Latch)))
		}
		return nil
	}
	if !slices.Contains(v.policy.Latches, int(r.Latch)) {
		return reject(codeLatch, "register latch", "one of the PCRs "+fmt.Sprint(v.policy.Latches), number(uint32(r.Latch)))
	}
	if want := latchName(r.Index, r.Latch); !bytes.Equal(h.NVName, want) {
		return reject(codeRegisterName, "header nv_name", hexOf(want), hexOf(h.NVName))
	}
	value, covered := v.pcrs.At(int(r.Latch))
	digest := evidence.LatchDigest(h.NVName, h.BootID)
	if want := extend(evidence.Hash{}, digest[:]); !covered || value != want {
		return reject(codeLatch, fmt.Sprintf("PCR %d", r.Latch), "closed in this boot: "+want.String(), value.String())
	}
	return nil
}

// registerValue holds what the TPM certified against the checkpoints: those
// the broker knows to be in the register, and those that came along.
//
//	value = SHA-256(value || checkpoint digest), once for each
func (v *verification) registerValue() *Rejection {
	h, r := v.b.Header, v.b.Register
	extra := evidence.HeaderDigest(v.b.RawHeader)
	signed, rejection := checkCertified("register", &r.Certified, v.key, tpmStNV, &extra)
	if rejection != nil {
		return rejection
	}
	indexName, offset, contents := signed.sized(), signed.u16(), signed.sized()
	if rejection := signed.done("register"); rejection != nil {
		return rejection
	}
	switch {
	case !bytes.Equal(indexName, h.NVName):
		return reject(codeRegisterName, "register indexName", hexOf(h.NVName), hexOf(indexName))
	case offset != 0 || len(contents) != sha256.Size:
		return reject(codeRegister, "register contents", "32 bytes at offset 0", fmt.Sprintf("%d bytes at offset %d", len(contents), offset))
	case signed.resetCount != v.attest.resetCount || signed.restartCount != v.attest.restartCount:
		return reject(codeMix, "register clockInfo", fmt.Sprintf("%d resets, %d restarts, as in the quote", v.attest.resetCount, v.attest.restartCount),
			fmt.Sprintf("%d resets, %d restarts", signed.resetCount, signed.restartCount))
	}
	known := v.knownRegister()
	if rejection := registerBase(h, r, known); rejection != nil {
		return rejection
	}
	value, tip := r.Base, known.Tip
	for rest := r.Tail; len(rest) > 0; rest = rest[sha256.Size:] {
		tip = evidence.Hash(rest[:sha256.Size])
		value = extend(value, tip[:])
	}
	if !bytes.Equal(contents, value[:]) {
		return reject(codeRegisterValue, "register contents", value.String(), hexOf(contents))
	}
	if tip != h.Checkpoint {
		return reject(codeRegisterTail, "register tail", "ends with checkpoint "+h.Checkpoint.String(), tip.String())
	}
	v.register = &RegisterState{Name: bytes.Clone(h.NVName), Size: r.From + uint64(len(r.Tail)/sha256.Size), Value: value, Tip: tip}
	return nil
}

// knownRegister is where this register was when the broker last saw it. After a
// reset or a hibernation it begins anew; after a sleep it goes on.
func (v *verification) knownRegister() RegisterState {
	last := v.host.Last
	if last == nil || last.Register == nil || last.ResetCount != v.attest.resetCount || !bytes.Equal(last.Register.Name, v.b.Header.NVName) {
		return RegisterState{}
	}
	return *last.Register
}

// registerBase accepts the two values of the register before the tail that say
// something: nothing, or what the broker saw itself. A NvPCR has been extended
// by systemd before the agent ran, so there the first one is taken as it is.
func registerBase(h *evidence.Header, r *evidence.Register, known RegisterState) *Rejection {
	switch {
	case known.Size > 0 && r.From == known.Size && r.Base == known.Value:
		return nil
	case r.From == 0 && r.Base.IsZero() && h.Anchor == evidence.AnchorNVLatch:
		return nil
	case r.From == 0 && h.Anchor == evidence.AnchorNvPCR && known.Size == 0:
		return nil
	}
	return reject(codeRegisterTail, "register base", fmt.Sprintf("%s after %d checkpoints", known.Value, known.Size), fmt.Sprintf("%s after %d", r.Base, r.From))
}

// extend is what TPM2_PCR_Extend and TPM2_NV_Extend do.
//
//	new = SHA-256(old || digest)
func extend(old evidence.Hash, digest []byte) evidence.Hash {
	var buf [2 * sha256.Size]byte
	return sha256.Sum256(append(append(buf[:0], old[:]...), digest...))
}

// Command codes in the policy of the register (TPM 2.0 part 2 section 6.5.2).
const (
	ccNVExtend          uint32 = 0x0136
	ccPolicyCommandCode uint32 = 0x016c
	ccPolicyOR          uint32 = 0x0171
	ccPolicyPCR         uint32 = 0x017f
	ccPolicyNvWritten   uint32 = 0x018f
)

// Attributes of the register (TPMA_NV, part 2 section 13.4): TPM_NT_EXTEND,
// POLICYWRITE, OWNERREAD, AUTHREAD, NO_DA, ORDERLY, CLEAR_STCLEAR and, since it
// was written to, WRITTEN.
const nvAttributes uint32 = 4<<4 | 1<<3 | 1<<17 | 1<<18 | 1<<25 | 1<<26 | 1<<27 | 1<<29

// latchName is the name of a register that could be written first only while
// the latch PCR was zero, and afterwards only be extended.
//
//	Name = nameAlg || SHA-256(TPMS_NV_PUBLIC)
func latchName(index uint32, latch uint8) []byte {
	var zero evidence.Hash
	values := sha256.Sum256(zero[:])
	selection := []byte{0, 0, 0, 1, 0, byte(tpmAlgSHA256), 3, 0, 0, 0}
	if latch < 24 {
		selection[7+latch/8] |= 1 << (latch % 8)
	}
	command := binary.BigEndian.AppendUint32(nil, ccNVExtend)
	first := policy(zero, ccPolicyPCR, selection, values[:])
	first = policy(policy(first, ccPolicyNvWritten, []byte{0}), ccPolicyCommandCode, command)
	later := policy(policy(zero, ccPolicyNvWritten, []byte{1}), ccPolicyCommandCode, command)
	either := policy(zero, ccPolicyOR, first[:], later[:])

	public := binary.BigEndian.AppendUint32(nil, index)
	public = binary.BigEndian.AppendUint16(public, tpmAlgSHA256)
	public = binary.BigEndian.AppendUint32(public, nvAttributes)
	public = binary.BigEndian.AppendUint16(appendSized(public, either[:]), sha256.Size)
	return name(nil, public)
}

// policy is one step of an authorization policy (part 3 section 23).
//
//	new = SHA-256(old || command code || arguments)
func policy(old evidence.Hash, command uint32, arguments ...[]byte) evidence.Hash {
	return sha256.Sum256(append(binary.BigEndian.AppendUint32(old[:], command), slices.Concat(arguments...)...))
}
