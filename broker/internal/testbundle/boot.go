// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testbundle

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/tpm"
)

// PCR returns the value a PCR has after a good boot.
func PCR(i int) []byte {
	values := bootlog.Boot{}.PCRs()
	return values[i][:]
}

// Boots makes the machine one that booted so, in the same start of its TPM.
func (h *Host) Boots(boot bootlog.Boot) {
	h.BootLog, _ = boot.Log(bootlog.SHA256)
	for i, value := range boot.PCRs() {
		h.PCRs[i] = value[:]
	}
	h.OSLog = nil
	h.list.restart(h)
}

// Extends lets systemd measure something into a PCR, and write it down.
func (h *Host) Extends(pcr int, what string) {
	digest := Text(what)
	value := sha256.Sum256(append(bytes.Clone(h.PCRs[pcr]), digest[:]...))
	h.PCRs[pcr] = value[:]
	h.OSLog = fmt.Appendf(h.OSLog, "\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%s\"}]}\n", pcr, digest)
}

// banks is which banks are active, as the TPM signs it: SHA-256 alone.
func (h *Host) banks(t testing.TB) *evidence.Banks {
	t.Helper()
	list := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{0xff, 0xff, 0xff}}}}
	answer := &tpm2.GetCapabilityResponse{CapabilityData: tpm2.TPMSCapabilityData{
		Capability: tpm2.TPMCapPCRs, Data: tpm2.NewTPMUCapabilities(tpm2.TPMCapPCRs, &list),
	}}
	audit, err := tpm2.NewAudit(tpm2.TPMAlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := tpm2.AuditCommand(audit, tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}, answer); err != nil {
		t.Fatal(err)
	}
	return &evidence.Banks{
		Response: append([]byte{0}, tpm2.Marshal(answer.CapabilityData)...),
		Certified: h.certify(t, tpm2.TPMSTAttestSessionAudit, evidence.BanksDigest(h.boot),
			tpm2.NewTPMUAttest(tpm2.TPMSTAttestSessionAudit, &tpm2.TPMSSessionAuditInfo{ExclusiveSession: true, SessionDigest: tpm2.TPM2BDigest{Buffer: audit.Digest()}})),
	}
}

// certify is a TPMS_ATTEST of another type than quote.
func (c *Chip) certify(t testing.TB, kind tpm2.TPMST, extra evidence.Hash, attested tpm2.TPMUAttest) evidence.Certification {
	t.Helper()
	attest := tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: kind, QualifiedSigner: tpm2.TPM2BName{Buffer: c.qualified()}, ExtraData: tpm2.TPM2BData{Buffer: extra[:]},
		ClockInfo:       tpm2.TPMSClockInfo{Clock: c.Clock, ResetCount: c.Reset, RestartCount: c.Restart, Safe: true},
		FirmwareVersion: Firmware, Attested: attested,
	})
	return evidence.Certification{Attest: attest, Signature: c.sign(t, attest)}
}

// register is the TPM register of mode nv-latch, with what was extended since
// the TPM was reset.
type register struct {
	value   evidence.Hash
	digests []evidence.Hash
}

// Latch opens a register: from now on the checkpoints go into it.
func (h *Host) Latch() {
	h.Anchor, h.register = evidence.AnchorNVLatch, &register{}
	digest := evidence.LatchDigest(h.registerName(), h.boot)
	latched := sha256.Sum256(append(make([]byte, 32), digest[:]...))
	h.PCRs[tpm.DefaultLatch] = latched[:]
}

// Break lets the agent say that its register is no longer what it should be.
func (h *Host) Break() { h.Anchor, h.register = evidence.AnchorBroken, nil }

func (h *Host) registerName() []byte {
	if h.Anchor != evidence.AnchorNVLatch {
		return nil
	}
	return tpm.RegisterName(tpm.DefaultIndex, tpm.DefaultLatch)
}

// extend puts a checkpoint into the register.
func (r *register) extend(checkpoint evidence.Hash) {
	r.value = sha256.Sum256(append(r.value[:], checkpoint[:]...))
	r.digests = append(r.digests, checkpoint)
}

// shown is the register as it stands, for a broker that knows the first known
// checkpoints in it.
func (h *Host) shown(t testing.TB, known uint64, extra evidence.Hash) *evidence.Register {
	t.Helper()
	if h.register == nil {
		return nil
	}
	r := &evidence.Register{Index: tpm.DefaultIndex, Latch: tpm.DefaultLatch, From: known}
	for i, digest := range h.register.digests {
		if uint64(i) < known {
			r.Base = sha256.Sum256(append(r.Base[:], digest[:]...))
		} else {
			r.Tail = append(r.Tail, digest[:]...)
		}
	}
	r.Certified = h.certify(t, tpm2.TPMSTAttestNV, extra, tpm2.NewTPMUAttest(tpm2.TPMSTAttestNV, &tpm2.TPMSNVCertifyInfo{
		IndexName: tpm2.TPM2BName{Buffer: h.registerName()}, NVContents: tpm2.TPM2BData{Buffer: h.register.value[:]},
	}))
	return r
}

// list is the kernel's list of what it measured into PCR 10.
type list struct {
	on      bool
	entries [][]byte
}

// restart begins the list anew, with the boot_aggregate of the machine.
func (l *list) restart(h *Host) {
	if !l.on {
		return
	}
	l.entries = nil
	h.PCRs[10] = make([]byte, 32)
	h.Lists("boot_aggregate")
}

// WithIMA lets the machine's kernel have a list.
func (h *Host) WithIMA() {
	h.list.on = true
	h.list.restart(h)
}

// Lists lets the kernel measure files, each with the digest that its path
// stands for, into the list and into PCR 10.
func (h *Host) Lists(paths ...string) {
	for _, path := range paths {
		digest := Digest(path).Value
		if path == "boot_aggregate" {
			sum := sha256.Sum256(bytes.Join(h.PCRs[:10], nil))
			digest = sum[:]
		}
		entry, extends := listed(digest, path)
		h.list.entries = append(h.list.entries, entry)
		value := sha256.Sum256(append(bytes.Clone(h.PCRs[10]), extends...))
		h.PCRs[10] = value[:]
	}
}

// listed is one entry of template ima-ng, and what PCR 10 is extended with for
// it (kernel: Documentation/security/IMA-templates.rst).
func listed(digest []byte, path string) (entry, extends []byte) {
	field := func(b []byte) []byte { return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...) }
	data := append(field(append([]byte("sha256:\x00"), digest...)), field([]byte(path+"\x00"))...)
	hash, extended := sha1.Sum(data), sha256.Sum256(data)
	entry = append(binary.LittleEndian.AppendUint32(nil, 10), hash[:]...)
	entry = append(binary.LittleEndian.AppendUint32(entry, 6), "ima-ng"...)
	return append(binary.LittleEndian.AppendUint32(entry, uint32(len(data))), data...), extended[:]
}

// tail is the list behind the first known entries, or as much of it as Most
// allows, with count and digest for the header.
func (h *Host) tail(known uint64) (evidence.IMATail, uint64, evidence.Value[evidence.Hash]) {
	if !h.list.on {
		return evidence.IMATail{}, 0, evidence.Unknown[evidence.Hash]("no-ima")
	}
	from, to := int(known), len(h.list.entries)
	if from > to {
		from = 0
	}
	if h.Most > 0 {
		to = min(to, from+h.Most)
	}
	data := bytes.Join(h.list.entries[from:to], nil)
	return evidence.IMATail{From: uint64(from), Data: data, More: to < len(h.list.entries)}, uint64(to), evidence.Known(evidence.Hash(sha256.Sum256(data)))
}
