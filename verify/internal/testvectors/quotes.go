// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

type bundle = *evidence.Bundle

// attest changes what the TPM signs.
func attest(change func(*tpm2.TPMSAttest)) func(*testbundle.World) {
	return func(w *testbundle.World) { w.OnAttest = change }
}

// signed changes the bytes that are signed.
func signed(change func([]byte) []byte) func(*testbundle.World) {
	return func(w *testbundle.World) { w.OnSigned = change }
}

// info changes what was quoted.
func info(change func(*tpm2.TPMSQuoteInfo)) func(*testbundle.World) {
	return attest(func(a *tpm2.TPMSAttest) { change(quoteInfo(a)) })
}

func quoteInfo(a *tpm2.TPMSAttest) *tpm2.TPMSQuoteInfo {
	q, err := a.Attested.Quote()
	if err != nil {
		panic("testvectors: " + err.Error())
	}
	return q
}

// quotes are wrong in the quote: each is signed by the enrolled key unless it
// says otherwise.
var quotes = []fault{
	{"quote-empty", "E_ATTEST_SIZE", "no attest", first, rework(func(b bundle) { b.Quote.Attest = nil })},
	{"quote-magic", "E_MAGIC", "does not begin with TPM_GENERATED_VALUE", first, signed(func(b []byte) []byte { return append([]byte("\x00TCG"), b[4:]...) })},
	{"quote-type-certify", "E_TYPE", "the TPM certified a key", first, attest(func(a *tpm2.TPMSAttest) {
		a.Type = tpm2.TPMSTAttestCertify
		a.Attested = tpm2.NewTPMUAttest(a.Type, &tpm2.TPMSCertifyInfo{Name: a.QualifiedSigner, QualifiedName: a.QualifiedSigner})
	})},
	{"quote-type-nv", "E_TYPE", "the TPM certified an NV index", first, attest(func(a *tpm2.TPMSAttest) {
		a.Type = tpm2.TPMSTAttestNV
		a.Attested = tpm2.NewTPMUAttest(a.Type, &tpm2.TPMSNVCertifyInfo{IndexName: a.QualifiedSigner, NVContents: tpm2.TPM2BData{Buffer: make([]byte, 32)}})
	})},
	{"quote-truncated", "E_ATTEST_FORM", "the attest ends early", first, signed(func(b []byte) []byte { return b[:len(b)-1] })},
	{"quote-very-short", "E_ATTEST_FORM", "an attest of three bytes", first, signed(func(b []byte) []byte { return b[:3] })},
	{"quote-cut-type", "E_ATTEST_FORM", "an attest of five bytes", first, signed(func(b []byte) []byte { return b[:5] })},
	{"quote-trailing", "E_ATTEST_FORM", "one byte behind the attest", first, signed(func(b []byte) []byte { return append(b, 0) })},
	{"quote-safe-two", "E_ATTEST_FORM", "the safe flag is 2", first, signed(func(b []byte) []byte {
		return swap(b, []byte{0, 0, 0, 7, 0, 0, 0, 0, 1, 0x20, 0x24}, []byte{0, 0, 0, 7, 0, 0, 0, 0, 2, 0x20, 0x24})
	})},
	{"quote-many-banks", "E_ATTEST_FORM", "says it has four thousand million banks", first, signed(func(b []byte) []byte {
		return swap(b, []byte{0, 0, 0, 1, 0, 0x0b, 3}, []byte{0xff, 0xff, 0xff, 0xff, 0, 0x0b, 3})
	})},
	{"quote-nine-banks", "E_ATTEST_FORM", "nine banks, more than any TPM has", first, info(func(q *tpm2.TPMSQuoteInfo) {
		for len(q.PCRSelect.PCRSelections) < 9 {
			q.PCRSelect.PCRSelections = append(q.PCRSelect.PCRSelections, q.PCRSelect.PCRSelections[0])
		}
	})},

	{"signature-trailing", "E_SIG_FORM", "one byte behind the signature", first, rework(func(b bundle) { b.Quote.Signature = append(b.Quote.Signature, 0) })},
	{"signature-cut", "E_SIG_FORM", "a signature of three bytes", first, rework(func(b bundle) { b.Quote.Signature = b.Quote.Signature[:3] })},
	{"signature-truncated", "E_SIG_FORM", "the signature ends early", first, rework(func(b bundle) { b.Quote.Signature = b.Quote.Signature[:len(b.Quote.Signature)-1] })},
	{"signature-zero", "E_SIG_FORM", "s is zero", first, func(w *testbundle.World) {
		w.OnSignature = func(s *tpm2.TPMSSignatureECC) { s.SignatureS.Buffer = make([]byte, 32) }
	}},
	{"signature-wide", "E_SIG_FORM", "r has 33 bytes", first, func(w *testbundle.World) {
		w.OnSignature = func(s *tpm2.TPMSSignatureECC) {
			s.SignatureR.Buffer = append([]byte{0}, s.SignatureR.Buffer...)
		}
	}},
	{"signature-rsa", "E_SIG_ALG", "calls itself RSASSA", first, rework(func(b bundle) { binary.BigEndian.PutUint16(b.Quote.Signature, 0x0014) })},
	{"signature-sha1", "E_SIG_ALG", "calls its hash SHA-1", first, rework(func(b bundle) { binary.BigEndian.PutUint16(b.Quote.Signature[2:], 0x0004) })},
	{"signature-other-key", "E_SIGNATURE", "by a key that is not enrolled, in the enrolled key's name", first, func(w *testbundle.World) {
		w.OnBundle = func(b bundle) {
			s := testbundle.NewAK("2").Sign(b.Quote.Attest)
			b.Quote.Signature = tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, s)})
		}
	}},
	{"signature-attest-changed", "E_SIGNATURE", "the reset count was changed after signing", first, rework(func(b bundle) {
		b.Quote.Attest = swap(b.Quote.Attest, []byte{0, 0, 0, 7, 0, 0, 0, 0, 1, 0x20, 0x24}, []byte{0, 0, 0, 8, 0, 0, 0, 0, 1, 0x20, 0x24})
	})},

	{"signer-null-key", "E_SIGNER", "signed with the null key: the handle stands for the signer", first, attest(func(a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer = []byte{0x40, 0, 0, 7} })},
	{"signer-name", "E_SIGNER", "the name instead of the qualified name", first, func(w *testbundle.World) {
		w.OnAttest = func(a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer = w.AKName }
	}},
	{"signer-owner-hierarchy", "E_SIGNER", "a primary of the owner hierarchy: its counters are obfuscated", first, func(w *testbundle.World) {
		w.OnAttest = func(a *tpm2.TPMSAttest) {
			digest := sha256.Sum256(append([]byte{0x40, 0, 0, 1}, w.AKName...))
			a.QualifiedSigner.Buffer = append([]byte{0, 0x0b}, digest[:]...)
		}
	}},

	{"extra-none", "E_EXTRADATA", "quoted over nothing", first, attest(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = nil })},
	{"extra-long", "E_EXTRADATA", "the digest and 32 bytes more", first, attest(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = append(a.ExtraData.Buffer, make([]byte, 32)...) })},
	{"extra-nonce", "E_EXTRADATA", "quoted over the bare challenge", first, func(w *testbundle.World) {
		w.OnAttest = func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = w.Nonce[:32] }
	}},
	{"extra-unlabelled", "E_EXTRADATA", "quoted over SHA-256(header) without the label", first, rehash(func(h []byte) []byte { return h })},
	{"extra-other-label", "E_EXTRADATA", "quoted over the header under the label of a checkpoint", first, rehash(func(h []byte) []byte { return append([]byte("jurat/checkpoint/v1\x00"), h...) })},
	{"extra-other-header", "E_EXTRADATA", "the header was changed after the quote", first, rework(func(b bundle) {
		b.Header.Tier = "lsm"
		b.RawHeader = b.Header.Marshal()
	})},

	{"pcr-sha1-bank", "E_PCR_BANK", "the SHA-1 bank was quoted", first, info(func(q *tpm2.TPMSQuoteInfo) { q.PCRSelect.PCRSelections[0].Hash = tpm2.TPMAlgSHA1 })},
	{"pcr-sha384-bank", "E_PCR_BANK", "the SHA-384 bank was quoted, SHA-256 values are shown", first, info(func(q *tpm2.TPMSQuoteInfo) { q.PCRSelect.PCRSelections[0].Hash = tpm2.TPMAlgSHA384 })},
	{"pcr-two-banks", "E_PCR_BANK", "two banks were quoted", first, info(func(q *tpm2.TPMSQuoteInfo) {
		q.PCRSelect.PCRSelections = append(q.PCRSelect.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMAlgSHA1, PCRSelect: []byte{0, 0, 0}})
	})},
	{"pcr-no-bank", "E_PCR_BANK", "no bank was quoted", first, info(func(q *tpm2.TPMSQuoteInfo) { q.PCRSelect.PCRSelections = nil })},
	{"pcr-missing", "E_PCR_SELECTION", "PCR 10 was not quoted", first, func(w *testbundle.World) { w.Quoted = []byte{0xff, 0xfb, 0} }},
	{"pcr-extra", "E_PCR_SELECTION", "PCR 17 was quoted as well", first, func(w *testbundle.World) { w.Quoted = []byte{0xff, 0xff, 2} }},
	{"pcr-resettable", "E_PCR_SELECTION", "PCR 23 was quoted instead of PCR 10", first, func(w *testbundle.World) { w.Quoted = []byte{0xff, 0xfb, 0x80} }},
	{"pcr-wide-bitmap", "E_PCR_SELECTION", "a selection of four bytes", first, func(w *testbundle.World) { w.Quoted = []byte{0xff, 0xff, 0, 0} }},
	{"pcr-value-missing", "E_PCR_VALUES", "the value of PCR 15 is not shown", first, rework(func(b bundle) { b.Quote.PCRs = b.Quote.PCRs[:15] })},
	{"pcr-value-extra", "E_PCR_VALUES", "a value of PCR 17 is shown, which was not quoted", first, rework(func(b bundle) {
		b.Quote.PCRs = append(b.Quote.PCRs, evidence.PCR{Index: 17, Digest: make([]byte, 32)})
	})},
	{"pcr-value-32", "E_PCR_VALUES", "a value of PCR 32 is shown, which no TPM has", first, rework(func(b bundle) {
		b.Quote.PCRs = append(b.Quote.PCRs, evidence.PCR{Index: 32, Digest: make([]byte, 32)})
	})},
	{"pcr-relabelled", "E_PCR_VALUES", "PCR 16 is shown in the place of PCR 15", first, rework(func(b bundle) { b.Quote.PCRs[15].Index = 16 })},
	{"pcr-value-short", "E_PCR_VALUES", "a value of 20 bytes", first, rework(func(b bundle) { b.Quote.PCRs[0].Digest = b.Quote.PCRs[0].Digest[:20] })},
	{"pcr-value-moved", "E_PCR_VALUES", "one byte moved from one value to the next: the digest stays the same", first, rework(func(b bundle) {
		p := b.Quote.PCRs
		all := bytes.Join([][]byte{p[0].Digest, p[1].Digest}, nil)
		p[0].Digest, p[1].Digest = all[:31], all[31:]
	})},
	{"pcr-value-forged", "E_PCR_DIGEST", "a value that was not signed", first, rework(func(b bundle) { b.Quote.PCRs[7].Digest[0] ^= 1 })},
	{"pcr-values-exchanged", "E_PCR_DIGEST", "the values of two PCRs change places", first, rework(func(b bundle) {
		p := b.Quote.PCRs
		p[3].Digest, p[4].Digest = p[4].Digest, p[3].Digest
	})},
	{"pcr-digest-forged", "E_PCR_DIGEST", "the signed digest is not that of the values", first, info(func(q *tpm2.TPMSQuoteInfo) { q.PCRDigest.Buffer[0] ^= 1 })},
}

// rehash quotes over SHA-256 of what form makes of the header.
func rehash(form func([]byte) []byte) func(*testbundle.World) {
	return func(w *testbundle.World) {
		var header []byte
		w.OnHeader = func(h *evidence.Header) { header = h.Marshal() }
		w.OnAttest = func(a *tpm2.TPMSAttest) {
			digest := sha256.Sum256(form(header))
			a.ExtraData.Buffer = digest[:]
		}
	}
}
