// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testvectors

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/verify/internal/testbundle"
)

// parameters are good bundles, and a verifier that is asked half a question or
// another one.
var parameters = []fault{
	{"policy-pcr-16", "E_POLICY", "the policy demands PCR 16, which root can reset", first, func(w *testbundle.World) { w.Policy.PCRs = append(w.Policy.PCRs, 16) }},
	{"policy-pcr-23", "E_POLICY", "the policy demands PCR 23, which root can reset", first, func(w *testbundle.World) { w.Policy.PCRs = []int{0, 23} }},
	{"policy-pcr-24", "E_POLICY", "the policy demands a PCR that does not exist", first, func(w *testbundle.World) { w.Policy.PCRs = append(w.Policy.PCRs, 24) }},
	{"policy-pcr-negative", "E_POLICY", "the policy demands a PCR that does not exist", first, func(w *testbundle.World) { w.Policy.PCRs = append(w.Policy.PCRs, -1) }},
	{"policy-no-pcr", "E_POLICY", "the policy demands no PCR", first, func(w *testbundle.World) { w.Policy.PCRs = nil }},
	{"policy-no-anchor", "E_POLICY", "the policy accepts no anchor mode", first, func(w *testbundle.World) { w.Policy.Anchors = nil }},
	{"policy-anchor", "E_POLICY", "the policy accepts an unknown anchor mode", first, func(w *testbundle.World) { w.Policy.Anchors = []string{"none", "pcr-23"} }},
	{"policy-no-tier", "E_POLICY", "the policy accepts no tier", first, func(w *testbundle.World) { w.Policy.Tiers = nil }},
	{"policy-tier", "E_POLICY", "the policy accepts an unknown tier", first, func(w *testbundle.World) { w.Policy.Tiers = []string{"tracepoint", "procfs"} }},
	{"policy-grace-negative", "E_POLICY", "a time of grace below zero", first, func(w *testbundle.World) { w.Policy.UnsafeClockGrace = -time.Second }},
	{"policy-grace-long", "E_POLICY", "a time of grace of more than a day", first, func(w *testbundle.World) { w.Policy.UnsafeClockGrace = 25 * time.Hour }},

	{"host-ueid-short", "E_HOST", "the host record has no whole ueid", first, func(w *testbundle.World) { w.UEID = w.UEID[:32]; w.OnBundle = anyUEID }},
	{"host-ueid-type", "E_HOST", "the host record has a ueid of another type", first, func(w *testbundle.World) {
		w.UEID = append([]byte{2}, w.UEID[1:]...)
		w.OnBundle = anyUEID
	}},
	{"host-level", "E_HOST", "the host record does not say how the EK was trusted", first, func(w *testbundle.World) { w.Level = "" }},
	{"host-other", "E_HOST_MISMATCH", "the bundle of one host in the session of another", first, func(w *testbundle.World) {
		other := testbundle.Text("EK of another host")
		w.UEID = append([]byte{1}, other[:]...)
		w.OnBundle = anyUEID
	}},

	{"challenge-no-broker", "E_CHALLENGE", "the challenge names no broker", first, func(w *testbundle.World) { w.Broker = "" }},
	{"challenge-short", "E_CHALLENGE", "a challenge of 8 bytes", first, func(w *testbundle.World) {
		w.Nonce = w.Nonce[:8]
		w.Requests[0].Nonce = w.Nonce
	}},
	{"challenge-other", "E_NONCE", "the answer to another challenge: a replay", first, func(w *testbundle.World) {
		w.OnBundle = otherNonce(w.Nonce)
		w.Nonce = bytes.Repeat([]byte{9}, 56)
	}},
	{"challenge-expired", "E_NONCE_EXPIRED", "the answer comes 31 seconds after the challenge", first, func(w *testbundle.World) { w.Now = w.Expires.Add(11 * time.Second) }},
	{"challenge-expires-now", "E_NONCE_EXPIRED", "the challenge expires at this moment", first, func(w *testbundle.World) { w.Now = w.Expires }},
}

// keys are attestation keys that must not be believed, each signing well.
var keys = []fault{
	{"ak-truncated", "E_AK_FORM", "the public area ends early", first, akBytes(func(b []byte) []byte { return b[:len(b)-1] })},
	{"ak-cut", "E_AK_FORM", "the public area ends before the scheme", first, akBytes(func(b []byte) []byte { return b[:13] })},
	{"ak-auth-policy", "E_AK_FORM", "an authorization policy of 600 bytes, which is no digest", first, ak(func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = make([]byte, 600) })},
	{"ak-trailing", "E_AK_FORM", "one byte behind the public area", first, akBytes(func(b []byte) []byte { return append(b, 0) })},
	{"ak-empty", "E_AK_FORM", "no public area", first, akBytes(func([]byte) []byte { return nil })},
	{"ak-type", "E_AK_ALG", "a key that is not ECC", first, akPatch(0, 0x0001)},
	{"ak-name-algorithm", "E_AK_ALG", "a key whose name is a SHA-1 hash", first, akPatch(2, 0x0004)},
	{"ak-symmetric", "E_AK_ALG", "a key with a symmetric algorithm", first, akPatch(10, 0x0006)},
	{"ak-scheme-null", "E_AK_ALG", "a key without a scheme", first, ak(func(p *tpm2.TPMTPublic) { eccParms(p).Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull} })},
	{"ak-scheme", "E_AK_ALG", "a key with the ECDAA scheme", first, akPatch(12, 0x001a)},
	{"ak-hash", "E_AK_ALG", "a key that signs over SHA-1", first, akPatch(14, 0x0004)},
	{"ak-curve", "E_AK_ALG", "a key on P-384", first, akPatch(16, 0x0004)},
	{"ak-kdf", "E_AK_ALG", "a key with a key derivation function", first, akPatch(18, 0x0020)},
	{"ak-unrestricted", "E_AK_ATTRS", "not restricted: root could have it sign a quote of its own making", first, ak(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false })},
	{"ak-no-sign", "E_AK_ATTRS", "not for signing", first, ak(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false })},
	{"ak-decrypt", "E_AK_ATTRS", "for decryption as well", first, ak(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true })},
	{"ak-not-fixed-tpm", "E_AK_ATTRS", "can be moved to another TPM", first, ak(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false })},
	{"ak-not-fixed-parent", "E_AK_ATTRS", "can be moved to another parent", first, ak(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false })},
	{"ak-imported", "E_AK_ATTRS", "not made by the TPM: somebody else knows it", first, ak(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false })},
	{"ak-encrypted-duplication", "E_AK_ATTRS", "can be duplicated", first, ak(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.EncryptedDuplication = true })},
	{"ak-reserved-attribute", "E_AK_ATTRS", "an attribute that is reserved", first, akBytes(func(b []byte) []byte { b[4] |= 0x80; return b })},
	{"ak-point", "E_AK_POINT", "a point that is not on the curve", first, akBytes(func(b []byte) []byte { b[len(b)-1] ^= 1; return b })},
	{"ak-point-x-size", "E_AK_POINT", "a coordinate of 40 bytes", first, akPoint(func(p *tpm2.TPMSECCPoint) { p.X.Buffer = make([]byte, 40) })},
	{"ak-point-y-size", "E_AK_POINT", "a coordinate of 70 bytes", first, akPoint(func(p *tpm2.TPMSECCPoint) { p.Y.Buffer = make([]byte, 70) })},
	{"ak-substituted", "E_AK_NAME", "another key's public area under the enrolled name", first, func(w *testbundle.World) { w.AKPublic = testbundle.NewAK("2").Bytes() }},
}

// anyUEID keeps the bundle's own ueid well formed.
var anyUEID = func(b bundle) {
	ueid := testbundle.Text("EK of h17")
	b.UEID = append([]byte{1}, ueid[:]...)
}

// otherNonce keeps the bundle's own nonce.
func otherNonce(nonce []byte) func(bundle) { return func(b bundle) { b.Nonce = nonce } }

// ak changes the key's public area and enrols it like that.
func ak(change func(*tpm2.TPMTPublic)) func(*testbundle.World) {
	return func(w *testbundle.World) {
		change(&w.AK.Public)
		w.AKPublic, w.AKName = w.AK.Bytes(), w.AK.Name()
	}
}

// akPoint changes the key's point.
func akPoint(change func(*tpm2.TPMSECCPoint)) func(*testbundle.World) {
	return ak(func(p *tpm2.TPMTPublic) {
		point, err := p.Unique.ECC()
		if err != nil {
			panic("testvectors: " + err.Error())
		}
		change(point)
	})
}

// akBytes changes the bytes that are enrolled.
func akBytes(change func([]byte) []byte) func(*testbundle.World) {
	return func(w *testbundle.World) {
		w.AKPublic = change(w.AKPublic)
		digest := sha256.Sum256(w.AKPublic)
		w.AKName = append([]byte{0x00, 0x0b}, digest[:]...)
	}
}

// akPatch writes one number of the public area: type 0, name algorithm 2,
// symmetric 10, scheme 12, hash 14, curve 16, KDF 18.
func akPatch(at int, value uint16) func(*testbundle.World) {
	return akBytes(func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[at:], value)
		return b
	})
}

func eccParms(p *tpm2.TPMTPublic) *tpm2.TPMSECCParms {
	parms, err := p.Parameters.ECCDetail()
	if err != nil {
		panic("testvectors: " + err.Error())
	}
	return parms
}
