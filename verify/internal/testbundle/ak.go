// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package testbundle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// AK is an attestation key in software: it signs whatever it is given, which
// is just what a real one never does.
type AK struct {
	private *ecdsa.PrivateKey
	Public  tpm2.TPMTPublic
}

// NewAK returns the key that seed determines.
func NewAK(seed string) *AK {
	d := sha256.Sum256([]byte("jurat test attestation key " + seed))
	private := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), d[:]))
	point := must(private.PublicKey.Bytes())
	return &AK{private: private, Public: tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256,
			KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
		}),
	}}
}

// Bytes is the public area.
func (k *AK) Bytes() []byte { return tpm2.Marshal(k.Public) }

// Name is the key's name.
func (k *AK) Name() []byte { return must(tpm2.ObjectName(&k.Public)).Buffer }

// QualifiedName is what a quote gives as its signer when the key is a primary
// of the endorsement hierarchy.
func (k *AK) QualifiedName() []byte {
	digest := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHEndorsement)), k.Name()...))
	return append(binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMAlgSHA256)), digest[:]...)
}

// SignDER signs in the manner of RFC 6979, so that the same input always gives
// the same signature.
func (k *AK) SignDER(attest []byte) []byte {
	digest := sha256.Sum256(attest)
	return must(k.private.Sign(nil, digest[:], crypto.SHA256))
}

// Sign is SignDER in the form of the TPM.
func (k *AK) Sign(attest []byte) *tpm2.TPMSSignatureECC {
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(k.SignDER(attest), &sig); err != nil || len(rest) != 0 {
		panic("testbundle: signature is not DER")
	}
	return &tpm2.TPMSSignatureECC{
		Hash:       tpm2.TPMAlgSHA256,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: sig.R.FillBytes(make([]byte, 32))},
		SignatureS: tpm2.TPM2BECCParameter{Buffer: sig.S.FillBytes(make([]byte, 32))},
	}
}

// Malleate returns the other signature that verifies over the same bytes.
func Malleate(sig *tpm2.TPMSSignatureECC) {
	s := new(big.Int).SetBytes(sig.SignatureS.Buffer)
	sig.SignatureS.Buffer = new(big.Int).Sub(elliptic.P256().Params().N, s).FillBytes(make([]byte, 32))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("testbundle: " + err.Error())
	}
	return v
}
