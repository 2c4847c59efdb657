// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"bytes"
	"crypto/sha256"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/internal/bootlog"
	"github.com/jurat-dev/jurat/verify"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// latched is the host at first contact with its log in a register; again the
// same host at second contact.
func latched() *testbundle.World {
	w := testbundle.First()
	w.Register = testbundle.Latched()
	return w
}

func again() *testbundle.World {
	w := testbundle.Second()
	next := latched().Build().Next
	w.Last = &next
	w.Register = testbundle.Latched()
	w.Register.Tail = nil
	w.Register.Known, w.Register.Base = next.Register.Size, next.Register.Value
	return w
}

// anew is the register after a reset: opened again, and nothing known of it.
func anew(w *testbundle.World) {
	next := latched().Build().Next
	w.Last.Register = next.Register
	w.Register = testbundle.Latched()
}

func nvpcr() *testbundle.World {
	w := testbundle.First()
	w.Register = &testbundle.Register{Mode: evidence.AnchorNvPCR, Index: 0x01d10201, Base: testbundle.Text("what systemd extended")}
	w.Policy.NvPCRs = []evidence.Bytes{w.Register.Name()}
	return w
}

// register changes what is shown of the register, or what is certified.
func register(change func(*evidence.Register, *tpm2.TPMSAttest)) func(*testbundle.World) {
	return func(w *testbundle.World) { w.OnRegister = change }
}

func nvInfo(a *tpm2.TPMSAttest) *tpm2.TPMSNVCertifyInfo {
	info, err := a.Attested.NV()
	if err != nil {
		panic("testvectors: " + err.Error())
	}
	return info
}

// latchHolds puts something into the latch PCR.
func latchHolds(value func(*testbundle.World) evidence.Hash) func(*testbundle.World) {
	return func(w *testbundle.World) {
		w.OnRegister = func(*evidence.Register, *tpm2.TPMSAttest) { w.PCRs[w.Register.Latch] = value(w) }
	}
}

// banks changes the TPM's word on its banks, or what it signed about that.
func banks(change func(*evidence.Banks, *tpm2.TPMSAttest)) func(*testbundle.World) {
	return func(w *testbundle.World) { w.OnBanks = change }
}

// answers has the TPM give another answer, and sign just that.
func answers(response func([]byte) []byte) func(*testbundle.World) {
	return banks(func(b *evidence.Banks, a *tpm2.TPMSAttest) {
		b.Response = response(b.Response)
		info, err := a.Attested.SessionAudit()
		if err != nil {
			panic("testvectors: " + err.Error())
		}
		cp := sha256.Sum256([]byte{0, 0, 1, 0x7a, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1})
		rp := sha256.Sum256(append([]byte{0, 0, 0, 0, 0, 0, 1, 0x7a}, b.Response...))
		digest := sha256.Sum256(bytes.Join([][]byte{make([]byte, 32), cp[:], rp[:]}, nil))
		info.SessionDigest.Buffer = digest[:]
	})
}

// audit changes what was signed about the banks, and signs it again.
func audit(change func([]byte) []byte) func(*testbundle.World) {
	return rework(func(b bundle) {
		a := change(bytes.Clone(b.Banks.Certified.Attest))
		b.Banks.Certified = evidence.Certification{Attest: a, Signature: signedBy("1", a)}
	})
}

// signedBy is the signature of the key that seed determines.
func signedBy(seed string, attest []byte) []byte {
	sig := testbundle.NewAK(seed).Sign(attest)
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, sig)})
}

const sha1Bank = 0x0004

// beside is what the TPM signs beside the quote: the register, and its banks.
var beside = []fault{
	{"ok-register", OK, "first contact with a latched register", latched, nil},
	{"ok-register-goes-on", OK, "second contact: one more checkpoint in the register", again, nil},
	{"ok-register-shown-whole", OK, "second contact, with all checkpoints since the register was opened", again, func(w *testbundle.World) {
		w.Register.Known, w.Register.Base = 0, evidence.Hash{}
		w.Register.Tail = []evidence.Hash{testbundle.Text("first checkpoint of the boot"), w.Last.Checkpoint}
	}},
	{"ok-register-same-checkpoint", OK, "second contact about the same checkpoint: nothing was extended", again, func(w *testbundle.World) {
		sameCheckpoint(w)
		w.Register.Again = true
	}},
	{"ok-register-after-reset", OK, "a reset: the register was opened anew", rebooted, anew},
	{"ok-register-after-hibernation", OK, "a TPM Restart: the register was opened anew, the count of resets stays", rebooted, func(w *testbundle.World) {
		anew(w)
		w.Clock.ResetCount, w.Clock.RestartCount = w.Last.ResetCount, w.Last.RestartCount+1
	}},
	{"ok-register-after-sleep", OK, "a TPM Resume: a new epoch, and the register goes on", again, func(w *testbundle.World) {
		w.Epoch = 2
		w.Clock.RestartCount++
		w.Log[3] = testbundle.Start(2, w.BootID)
		w.Send = []uint64{3, 4}
	}},
	{"ok-nvpcr", OK, "a register of systemd's that the policy lists", nvpcr, nil},
	{"ok-anchor-broken", OK, "a broken register, which this policy accepts", first, func(w *testbundle.World) {
		w.Policy.Anchors = []string{evidence.AnchorBroken}
		w.OnHeader = func(h *evidence.Header) { h.Anchor = evidence.AnchorBroken }
	}},

	{"anchor-broken", "E_ANCHOR", "a broken register", first, header(func(h *evidence.Header) { h.Anchor = evidence.AnchorBroken })},
	{"register-value", "E_REGISTER_VALUE", "the register holds something else than the checkpoints make", latched, register(func(_ *evidence.Register, a *tpm2.TPMSAttest) {
		nvInfo(a).NVContents.Buffer[0] ^= 1
	})},
	{"register-omission", "E_REGISTER_VALUE", "a checkpoint that was extended is not shown: the log was rewound", latched, register(func(r *evidence.Register, _ *tpm2.TPMSAttest) {
		r.Tail = r.Tail[32:]
	})},
	{"register-order", "E_REGISTER_VALUE", "two checkpoints in the other order", latched, register(func(r *evidence.Register, _ *tpm2.TPMSAttest) {
		r.Tail = append(r.Tail[32:64:64], append(r.Tail[:32], r.Tail[32:]...)...)
	})},
	{"register-rewind", "E_REGISTER_VALUE", "second contact with a register that has not moved: its checkpoint is another one", again, register(func(_ *evidence.Register, a *tpm2.TPMSAttest) {
		next := latched().Build().Next
		nvInfo(a).NVContents.Buffer = next.Register.Value[:]
	})},
	{"register-base", "E_REGISTER_TAIL", "first contact with a register that does not begin with zeros", latched, func(w *testbundle.World) { w.Register.Base = testbundle.Text("base") }},
	{"register-from", "E_REGISTER_TAIL", "first contact with a register that is shown from the middle", latched, func(w *testbundle.World) { w.Register.Known = 1 }},
	{"register-from-other", "E_REGISTER_TAIL", "second contact from another place than the known one", again, func(w *testbundle.World) { w.Register.Known++ }},
	{"register-base-other", "E_REGISTER_TAIL", "second contact from another value than the known one", again, func(w *testbundle.World) { w.Register.Base = testbundle.Text("base") }},
	{"register-tip", "E_REGISTER_TAIL", "the quoted checkpoint is not in the register", latched, func(w *testbundle.World) { w.Register.Again = true }},
	{"register-tip-empty", "E_REGISTER_TAIL", "second contact with a new checkpoint that is not in the register", again, func(w *testbundle.World) { w.Register.Again = true }},
	{"register-index", "E_REGISTER_NAME", "the register is at another index than its name says", latched, register(func(r *evidence.Register, _ *tpm2.TPMSAttest) { r.Index++ })},
	{"register-name-other", "E_REGISTER_NAME", "an index that anybody may write, under the header's name for it", latched, func(w *testbundle.World) {
		w.OnHeader = func(h *evidence.Header) { h.NVName[10] ^= 1 }
	}},
	{"register-certified-other", "E_REGISTER_NAME", "another index was certified than the header names: undefined, and defined anew", latched, register(func(_ *evidence.Register, a *tpm2.TPMSAttest) {
		nvInfo(a).IndexName.Buffer[10] ^= 1
	})},
	{"register-nvpcr-unlisted", "E_REGISTER_NAME", "a register of systemd's that the policy does not list", nvpcr, func(w *testbundle.World) { w.Policy.NvPCRs = nil }},
	{"register-nvpcr-latch", "E_REGISTER", "a register of systemd's with a latch", nvpcr, func(w *testbundle.World) { w.Register.Latch = 13 }},
	{"register-nvpcr-rebased", "E_REGISTER_TAIL", "a register of systemd's that is shown from the middle", nvpcr, func(w *testbundle.World) { w.Register.Known = 4 }},
	{"register-offset", "E_REGISTER", "only a part of the register was certified", latched, register(func(_ *evidence.Register, a *tpm2.TPMSAttest) { nvInfo(a).Offset = 4 })},
	{"register-size", "E_REGISTER", "31 bytes of the register were certified", latched, register(func(_ *evidence.Register, a *tpm2.TPMSAttest) {
		nvInfo(a).NVContents.Buffer = nvInfo(a).NVContents.Buffer[:31]
	})},
	{"register-reset", "E_MIX", "the register was certified after another reset than the quote", latched, register(func(_ *evidence.Register, a *tpm2.TPMSAttest) { a.ClockInfo.ResetCount++ })},
	{"register-magic", "E_MAGIC", "the certification begins with another magic", latched, register(func(_ *evidence.Register, a *tpm2.TPMSAttest) { a.Magic = 0xff544348 })},
	{"register-signer", "E_SIGNER", "the certification names another signer", latched, register(func(_ *evidence.Register, a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer[3] ^= 1 })},
	{"register-quote", "E_TYPE", "the quote in place of the certification", latched, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) {
			b.Register.Certified = evidence.Certification{Attest: b.Quote.Attest, Signature: b.Quote.Signature}
		}
	}},
	{"register-in-quote", "E_TYPE", "the certification in place of the quote", latched, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) {
			b.Quote.Attest, b.Quote.Signature = b.Register.Certified.Attest, b.Register.Certified.Signature
		}
	}},
	{"register-earlier", "E_EXTRADATA", "the certification of the last bundle", again, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) { b.Register.Certified = latched().Build().Bundle.Register.Certified }
	}},
	{"register-signature", "E_SIGNATURE", "the certification was changed after it was signed", latched, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) {
			b.Register.Certified.Attest = bytes.Clone(b.Register.Certified.Attest)
			b.Register.Certified.Attest[len(b.Register.Certified.Attest)-1] ^= 1
		}
	}},
	{"register-empty", "E_ATTEST_SIZE", "no certification", latched, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) { b.Register.Certified.Attest = nil }
	}},
	{"register-cut", "E_ATTEST_FORM", "the certification ends early", latched, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) { b.Register.Certified.Attest = b.Register.Certified.Attest[:20] }
	}},

	{"latch-pcr", "E_LATCH", "the latch is a PCR that the policy does not take for one", latched, func(w *testbundle.World) {
		w.Register.Latch = 14
		w.Policy.Latches = []int{13}
	}},
	{"latch-open", "E_LATCH", "the latch was never closed", latched, latchHolds(func(*testbundle.World) evidence.Hash { return evidence.Hash{} })},
	{"latch-other-boot", "E_LATCH", "the latch was closed in another boot", latched, latchHolds(func(w *testbundle.World) evidence.Hash {
		digest := evidence.LatchDigest(w.Register.Name(), make([]byte, 16))
		return sha256.Sum256(append(make([]byte, 32), digest[:]...))
	})},
	{"latch-other-register", "E_LATCH", "the latch was closed for another register", latched, latchHolds(func(w *testbundle.World) evidence.Hash {
		other := testbundle.Register{Mode: evidence.AnchorNVLatch, Index: w.Register.Index + 1, Latch: w.Register.Latch}
		digest := evidence.LatchDigest(other.Name(), w.BootID)
		return sha256.Sum256(append(make([]byte, 32), digest[:]...))
	})},
	{"latch-extended", "E_LATCH", "somebody else extended the latch after it was closed", latched, latchHolds(func(w *testbundle.World) evidence.Hash {
		value := w.PCRs[w.Register.Latch]
		return sha256.Sum256(append(value[:], value[:]...))
	})},

	{"ok-banks-known", OK, "the banks are known since the last reset, and not shown again", second, rework(func(b bundle) { b.Banks = nil })},
	{"ok-banks-covered", OK, "two active banks, and a boot log for both", first, func(w *testbundle.World) {
		w.Boots(bootlog.Boot{}, bootlog.Bank{Algorithm: sha1Bank, Hash: sha1}, bootlog.SHA256)
	}},
	{"banks-missing", "E_BANKS", "no word on the active banks", first, rework(func(b bundle) { b.Banks = nil })},
	{"banks-after-reset", "E_BANKS", "no word on the active banks since the reset", rebooted, rework(func(b bundle) { b.Banks = nil })},
	{"banks-two", "E_BANKS", "an active bank that nothing covers, as there is no boot log", first, func(w *testbundle.World) { w.Banks = append(w.Banks, sha1Bank) }},
	{"banks-uncapped", "E_BANKS", "an active bank that the boot log does not cover", first, func(w *testbundle.World) {
		w.Boots(bootlog.Boot{}, bootlog.SHA256)
		w.Banks = append(w.Banks, sha1Bank)
	}},
	{"banks-unknown", "E_BANKS", "an active SM3 bank that the boot log does not cover", first, func(w *testbundle.World) {
		w.Boots(bootlog.Boot{}, bootlog.SHA256)
		w.Banks = append(w.Banks, 0x0012)
	}},
	{"banks-no-sha256", "E_BANKS", "SHA-256 is not active", first, func(w *testbundle.World) {
		w.Boots(bootlog.Boot{}, bootlog.Bank{Algorithm: sha1Bank, Hash: sha1}, bootlog.SHA256)
		w.Banks = []uint16{sha1Bank}
	}},
	{"banks-response", "E_BANKS", "another answer than the audited one", first, func(w *testbundle.World) {
		w.Banks = append(w.Banks, sha1Bank)
		w.OnBundle = func(b bundle) { b.Banks.Response = first().Build().Bundle.Banks.Response }
	}},
	{"banks-more", "E_BANKS", "the answer is not all of it", first, answers(func(r []byte) []byte { return append([]byte{1}, r[1:]...) })},
	{"banks-capability", "E_BANKS", "an answer to another question", first, answers(func(r []byte) []byte { return append([]byte{0, 0, 0, 0, 6}, r[5:]...) })},
	{"banks-trailing", "E_BANKS", "a byte behind the answer", first, answers(func(r []byte) []byte { return append(r, 0) })},
	{"banks-cut", "E_BANKS", "the answer ends early", first, answers(func(r []byte) []byte { return r[:len(r)-1] })},
	{"banks-many", "E_BANKS", "an answer that counts four billion banks", first, answers(func(r []byte) []byte {
		return append(append(r[:5:5], 0xff, 0xff, 0xff, 0xff), r[9:]...)
	})},
	{"banks-reset", "E_BANKS", "the banks before the last reset", first, banks(func(_ *evidence.Banks, a *tpm2.TPMSAttest) { a.ClockInfo.ResetCount-- })},
	{"banks-restart", "E_BANKS", "the banks before the last restart", first, banks(func(_ *evidence.Banks, a *tpm2.TPMSAttest) { a.ClockInfo.RestartCount++ })},
	{"banks-extra", "E_EXTRADATA", "the banks of another boot", first, banks(func(_ *evidence.Banks, a *tpm2.TPMSAttest) { a.ExtraData.Buffer = make([]byte, 32) })},
	{"banks-exclusive", "E_ATTEST_FORM", "an audit whose flag is neither yes nor no", first, audit(func(a []byte) []byte {
		a[len(a)-35] = 2
		return a
	})},
	{"banks-attest-trailing", "E_ATTEST_FORM", "a byte behind the audit", first, audit(func(a []byte) []byte { return append(a, 0) })},
	{"banks-type", "E_TYPE", "the quote in place of the audit", first, rework(func(b bundle) {
		b.Banks.Certified = evidence.Certification{Attest: b.Quote.Attest, Signature: b.Quote.Signature}
	})},
	{"banks-signature", "E_SIGNATURE", "the audit is signed by another key", first, rework(func(b bundle) {
		b.Banks.Certified.Signature = signedBy("2", b.Banks.Certified.Attest)
	})},

	{"firmware-denied", "E_FIRMWARE_DENIED", "TPM firmware that the policy does not believe", first, func(w *testbundle.World) {
		w.Policy.Firmware = []verify.FirmwareRange{{Maker: "IFX", From: w.Firmware - 1, To: w.Firmware, Why: "CVE-2017-15361"}}
	}},
	{"ok-firmware-other-maker", OK, "denied firmware of another maker", first, func(w *testbundle.World) {
		w.Policy.Firmware = []verify.FirmwareRange{{Maker: "STM", From: w.Firmware - 1, To: w.Firmware, Why: "reason"}}
	}},
}
