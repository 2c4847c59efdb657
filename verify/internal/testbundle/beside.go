// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testbundle

import (
	"crypto/sha256"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/tpm"
	"github.com/jurat-dev/jurat/verify"
)

// Register is a TPM register with the checkpoints in it.
type Register struct {
	Mode  string // evidence.AnchorNVLatch or evidence.AnchorNvPCR
	Index uint32
	Latch uint8
	Known uint64          // checkpoints the broker knows to be in it
	Base  evidence.Hash   // value after those; of a NvPCR also before the first
	Tail  []evidence.Hash // checkpoints since, without the one of the bundle
	Again bool            // the bundle's checkpoint is in it already, at the end
}

// Latched returns a register in mode nv-latch that was opened with another
// checkpoint before this one.
func Latched() *Register {
	return &Register{Mode: evidence.AnchorNVLatch, Index: tpm.DefaultIndex, Latch: tpm.DefaultLatch, Tail: []evidence.Hash{Text("first checkpoint of the boot")}}
}

// Name is the name of the index, by other code than the verifier's.
func (r *Register) Name() []byte {
	if r.Mode == evidence.AnchorNvPCR {
		name := Text("NvPCR")
		return append([]byte{0, 0x0b}, name[:]...)
	}
	return tpm.RegisterName(r.Index, r.Latch)
}

// value folds checkpoints into the register.
func (r *Register) value(digests []evidence.Hash) evidence.Hash {
	value := r.Base
	for _, d := range digests {
		value = sha256.Sum256(append(value[:], d[:]...))
	}
	return value
}

func (r *Register) digests(checkpoint evidence.Hash) []evidence.Hash {
	if r.Again {
		return r.Tail
	}
	return append(r.Tail[:len(r.Tail):len(r.Tail)], checkpoint)
}

func (r *Register) state(shown *evidence.Register, checkpoint evidence.Hash) *verify.RegisterState {
	var digests []evidence.Hash
	for rest := shown.Tail; len(rest) > 0; rest = rest[32:] {
		digests = append(digests, evidence.Hash(rest[:32]))
	}
	return &verify.RegisterState{Name: r.Name(), Size: shown.From + uint64(len(digests)), Value: r.value(digests), Tip: checkpoint}
}

// settle fills the PCRs that others extend: the latch, and IMA's.
func (w *World) settle() {
	if w.Register != nil && w.Register.Mode == evidence.AnchorNVLatch {
		digest := evidence.LatchDigest(w.Register.Name(), w.BootID)
		w.PCRs[w.Register.Latch] = sha256.Sum256(append(make([]byte, 32), digest[:]...))
	}
	if w.IMA != nil {
		w.PCRs[10] = w.IMA.quoted()
	}
}

// attestation is a TPMS_ATTEST of another type than quote.
func (w *World) attestation(kind tpm2.TPMST, extra evidence.Hash, attested tpm2.TPMUAttest) *tpm2.TPMSAttest {
	return &tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: kind, QualifiedSigner: tpm2.TPM2BName{Buffer: w.AK.QualifiedName()},
		ExtraData: tpm2.TPM2BData{Buffer: extra[:]}, ClockInfo: w.Clock, FirmwareVersion: w.Firmware, Attested: attested,
	}
}

func (w *World) certify(a *tpm2.TPMSAttest) evidence.Certification {
	signed := tpm2.Marshal(*a)
	return evidence.Certification{Attest: signed, Signature: w.sign(w.AK.Sign(signed))}
}

func (w *World) sign(sig *tpm2.TPMSSignatureECC) []byte {
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, sig)})
}

// banks has the key sign which banks are active.
func (w *World) banks(b *evidence.Bundle) {
	if w.Chip != nil {
		b.Banks = must(w.Chip.Banks(evidence.BanksDigest(w.BootID)))
		return
	}
	if w.Banks == nil {
		return
	}
	list := tpm2.TPMLPCRSelection{}
	for _, bank := range w.Banks {
		list.PCRSelections = append(list.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(bank), PCRSelect: []byte{0xff, 0xff, 0xff}})
	}
	answer := &tpm2.GetCapabilityResponse{CapabilityData: tpm2.TPMSCapabilityData{
		Capability: tpm2.TPMCapPCRs, Data: tpm2.NewTPMUCapabilities(tpm2.TPMCapPCRs, &list),
	}}
	audit := must(tpm2.NewAudit(tpm2.TPMAlgSHA256))
	if err := tpm2.AuditCommand(audit, tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}, answer); err != nil {
		panic("testbundle: " + err.Error())
	}
	b.Banks = &evidence.Banks{Response: append([]byte{0}, tpm2.Marshal(answer.CapabilityData)...)}
	a := w.attestation(tpm2.TPMSTAttestSessionAudit, evidence.BanksDigest(w.BootID),
		tpm2.NewTPMUAttest(tpm2.TPMSTAttestSessionAudit, &tpm2.TPMSSessionAuditInfo{ExclusiveSession: true, SessionDigest: tpm2.TPM2BDigest{Buffer: audit.Digest()}}))
	if w.OnBanks != nil {
		w.OnBanks(b.Banks, a)
	}
	b.Banks.Certified = w.certify(a)
}

// register has the key certify the register.
func (w *World) register(b *evidence.Bundle) {
	r := w.Register
	if r == nil {
		return
	}
	digests := r.digests(b.Header.Checkpoint)
	b.Register = &evidence.Register{Index: r.Index, Latch: r.Latch, From: r.Known, Base: r.Base}
	for _, d := range digests {
		b.Register.Tail = append(b.Register.Tail, d[:]...)
	}
	value := r.value(digests)
	a := w.attestation(tpm2.TPMSTAttestNV, evidence.HeaderDigest(b.RawHeader),
		tpm2.NewTPMUAttest(tpm2.TPMSTAttestNV, &tpm2.TPMSNVCertifyInfo{
			IndexName: tpm2.TPM2BName{Buffer: r.Name()}, NVContents: tpm2.TPM2BData{Buffer: value[:]},
		}))
	if w.OnRegister != nil {
		w.OnRegister(b.Register, a)
	}
	b.Register.Certified = w.certify(a)
}
