// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

const (
	placeAK    = "ak_public"
	placeProof = "ak_quote"

	maxProof = 1 << 10 // bytes in a TPMS_ATTEST, and in a TPMT_SIGNATURE
)

// CheckPossession reports whether a quote proves that who answered the
// challenge of an enrolment also holds the attestation key akPublic.
//
// An EK without a certificate proves nothing about an AK: made in software, it
// opens a challenge for any name. So the AK has to speak for itself, and over
// what only the holder of that EK could know. The certificate says that the key
// is in a provider's TPM; a restricted key in a TPM signs this structure only
// if the TPM made it; the secret is fresh, and never used again.
//
// attest is a TPMS_ATTEST and signature a TPMT_SIGNATURE. Which PCRs were
// quoted does not matter here.
func CheckPossession(akPublic, secret, attest, signature []byte) error {
	key, _, err := readKey(akPublic, placeAK)
	if err != nil {
		return err
	}
	if len(attest) == 0 || len(signature) == 0 {
		return fault(CodeAKProof, placeProof, "an attestation key that only its own certificate speaks for must sign a quote over the secret")
	}
	if len(attest) > maxProof || len(signature) > maxProof {
		return fault(CodeTooLarge, placeProof, "%d and %d bytes, at most %d", len(attest), len(signature), maxProof)
	}
	a, e := tpm2.Unmarshal[tpm2.TPMSAttest](attest)
	if e != nil || !bytes.Equal(tpm2.Marshal(a), attest) {
		return fault(CodeMalformed, placeProof, "not one TPMS_ATTEST")
	}
	if a.Magic != tpm2.TPMGeneratedValue || a.Type != tpm2.TPMSTAttestQuote {
		return fault(CodeAKProof, placeProof, "magic %#x and type %#x are not a quote's", uint32(a.Magic), uint16(a.Type))
	}
	if want := qualifiedName(akPublic); !bytes.Equal(a.QualifiedSigner.Buffer, want) {
		return fault(CodeAKProof, placeProof, "signed by a key that is not this one as a primary of the endorsement hierarchy")
	}
	want := evidence.PossessionDigest(secret)
	if subtle.ConstantTimeCompare(a.ExtraData.Buffer, want[:]) != 1 {
		return fault(CodeAKProof, placeProof, "made for another enrolment")
	}
	return checkSignature(key, attest, signature)
}

// checkSignature wants ECDSA with SHA-256.
func checkSignature(key crypto.PublicKey, attest, signature []byte) error {
	s, err := tpm2.Unmarshal[tpm2.TPMTSignature](signature)
	if err != nil || !bytes.Equal(tpm2.Marshal(s), signature) {
		return fault(CodeMalformed, placeProof, "not one TPMT_SIGNATURE")
	}
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok || s.SigAlg != tpm2.TPMAlgECDSA {
		return fault(CodeAKProof, placeProof, "not signed with ECDSA")
	}
	pair, err := s.Signature.ECDSA()
	if err != nil || pair.Hash != tpm2.TPMAlgSHA256 {
		return fault(CodeAKProof, placeProof, "not signed over SHA-256")
	}
	sum := sha256.Sum256(attest)
	if !ecdsa.Verify(ec, sum[:], new(big.Int).SetBytes(pair.SignatureR.Buffer), new(big.Int).SetBytes(pair.SignatureS.Buffer)) {
		return fault(CodeAKProof, placeProof, "the attestation key did not sign it")
	}
	return nil
}

// qualifiedName is that of a primary of the endorsement hierarchy.
//
//	Name          = nameAlg || SHA-256(TPMT_PUBLIC)
//	QualifiedName = nameAlg || SHA-256(TPM_RH_ENDORSEMENT || Name)
func qualifiedName(public []byte) []byte {
	alg := []byte{0x00, 0x0b}
	name := sha256.Sum256(public)
	sum := sha256.Sum256(append(append([]byte{0x40, 0x00, 0x00, 0x0b}, alg...), name[:]...))
	return append(alg, sum[:]...)
}

// readKey reads the key out of a TPMT_PUBLIC, RSA or ECC, and returns it with
// its SubjectPublicKeyInfo.
func readKey(raw []byte, place string) (crypto.PublicKey, []byte, error) {
	if len(raw) > MaxPublic {
		return nil, nil, fault(CodeTooLarge, place, "%d bytes, at most %d", len(raw), MaxPublic)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](raw)
	if err != nil || !bytes.Equal(tpm2.Marshal(public), raw) {
		return nil, nil, fault(CodeMalformed, place, "not one TPMT_PUBLIC")
	}
	key, err := publicKeyOf(public)
	if err != nil {
		return nil, nil, fault(CodeKey, place, "%v", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, nil, fault(CodeKey, place, "%v", err)
	}
	return key, spki, nil
}

// PublicSPKI returns the key in a public area (TPMT_PUBLIC), RSA or ECC, as a
// SubjectPublicKeyInfo in DER, whatever else the area says.
func PublicSPKI(public []byte) ([]byte, error) {
	_, spki, err := readKey(public, "public area")
	return spki, err
}
