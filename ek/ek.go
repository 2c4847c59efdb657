// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// MaxPublic bounds a TPMT_PUBLIC.
const MaxPublic = 2 << 10

// SecretSize is the size of the secret inside a challenge.
const SecretSize = 32

// EK is an endorsement key as a host presents it: of the right kind, and not
// yet believed.
type EK struct {
	SPKI   []byte // DER of its SubjectPublicKeyInfo, computed here
	Pin    evidence.Hash
	public *tpm2.TPMTPublic
}

// placePublic is where an EK is found by ParseEK.
const placePublic = "ek_public"

// ParseEK reads the TPMT_PUBLIC of an endorsement key: a restricted decryption
// key of a TPM, RSA from 2048 bits or ECC on P-256 or P-384. The error is an
// [*Error].
func ParseEK(raw []byte) (*EK, error) {
	if len(raw) > MaxPublic {
		return nil, fault(CodeTooLarge, placePublic, "%d bytes, at most %d", len(raw), MaxPublic)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](raw)
	if err != nil {
		return nil, fault(CodeMalformed, placePublic, "%v", err)
	}
	if !bytes.Equal(tpm2.Marshal(public), raw) {
		return nil, fault(CodeMalformed, placePublic, "not in canonical form")
	}
	a := public.ObjectAttributes
	if !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.Restricted || !a.Decrypt || a.SignEncrypt {
		return nil, fault(CodeKey, placePublic, "not a restricted decryption key fixed to its TPM")
	}
	if public.NameAlg != tpm2.TPMAlgSHA256 && public.NameAlg != tpm2.TPMAlgSHA384 {
		return nil, fault(CodeKey, placePublic, "name algorithm %#x, want SHA-256 or SHA-384", uint16(public.NameAlg))
	}
	key, err := publicKeyOf(public)
	if err == nil {
		err = checkSymmetric(public)
	}
	if err != nil {
		return nil, fault(CodeKey, placePublic, "%v", err)
	}
	if e := checkKey(key, placePublic); e != nil {
		return nil, e
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fault(CodeMalformed, placePublic, "%v", err)
	}
	return &EK{SPKI: spki, Pin: sha256.Sum256(spki), public: public}, nil
}

// UEID returns the name of the host whose EK this is (RFC 9711 section 4.2.1).
//
//	ueid = 0x01 || SHA-256(SPKI of the EK)
func (e *EK) UEID() evidence.Bytes { return append(evidence.Bytes{1}, e.Pin[:]...) }

// publicKeyOf reads the key out of a public area, RSA or ECC.
func publicKeyOf(p *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	switch p.Type {
	case tpm2.TPMAlgRSA:
		return rsaKey(p)
	case tpm2.TPMAlgECC:
		return eccKey(p)
	}
	return nil, fmt.Errorf("key type %#x, want RSA or ECC", uint16(p.Type))
}

func rsaKey(p *tpm2.TPMTPublic) (*rsa.PublicKey, error) {
	params, err := p.Parameters.RSADetail()
	if err != nil {
		return nil, err
	}
	unique, err := p.Unique.RSA()
	if err != nil {
		return nil, err
	}
	if params.Exponent != 0 && params.Exponent != 65537 {
		return nil, fmt.Errorf("RSA exponent %d, want 65537", params.Exponent)
	}
	n := new(big.Int).SetBytes(unique.Buffer)
	if n.BitLen() != int(params.KeyBits) {
		return nil, fmt.Errorf("RSA modulus of %d bits in a key of %d", n.BitLen(), params.KeyBits)
	}
	return &rsa.PublicKey{N: n, E: 65537}, nil
}

func eccKey(p *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	params, err := p.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	unique, err := p.Unique.ECC()
	if err != nil {
		return nil, err
	}
	var curve elliptic.Curve
	switch params.CurveID {
	case tpm2.TPMECCNistP256:
		curve = elliptic.P256()
	case tpm2.TPMECCNistP384:
		curve = elliptic.P384()
	default:
		return nil, fmt.Errorf("curve %#x, want P-256 or P-384", uint16(params.CurveID))
	}
	size := curve.Params().BitSize / 8
	if len(unique.X.Buffer) > size || len(unique.Y.Buffer) > size {
		return nil, fmt.Errorf("point of %d and %d bytes on a curve of %d", len(unique.X.Buffer), len(unique.Y.Buffer), size)
	}
	point := make([]byte, 1+2*size)
	point[0] = 4
	copy(point[1+size-len(unique.X.Buffer):], unique.X.Buffer)
	copy(point[1+2*size-len(unique.Y.Buffer):], unique.Y.Buffer)
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

// symmetricOf returns what protects a challenge for the key.
func symmetricOf(p *tpm2.TPMTPublic) (*tpm2.TPMTSymDefObject, error) {
	if p.Type == tpm2.TPMAlgRSA {
		params, err := p.Parameters.RSADetail()
		if err != nil {
			return nil, err
		}
		return &params.Symmetric, nil
	}
	params, err := p.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	return &params.Symmetric, nil
}

// checkSymmetric wants AES in CFB mode.
func checkSymmetric(p *tpm2.TPMTPublic) error {
	s, err := symmetricOf(p)
	if err != nil {
		return err
	}
	if s.Algorithm != tpm2.TPMAlgAES {
		return fmt.Errorf("symmetric algorithm %#x, want AES", uint16(s.Algorithm))
	}
	bits, err := s.KeyBits.AES()
	if err != nil {
		return err
	}
	mode, err := s.Mode.AES()
	if err != nil {
		return err
	}
	if (*bits != 128 && *bits != 256) || *mode != tpm2.TPMAlgCFB {
		return fmt.Errorf("AES-%d in mode %#x, want 128 or 256 in CFB", *bits, uint16(*mode))
	}
	return nil
}

// Challenge is what TPM2_ActivateCredential takes: only the TPM with this EK
// gets the secret out, and only for a key with the name it was made over.
type Challenge struct {
	Blob   []byte // contents of TPM2B_ID_OBJECT
	Secret []byte // contents of TPM2B_ENCRYPTED_SECRET
}

// Challenge hides secret for the key named akName in the TPM of e
// (TPM2_MakeCredential). The name must be one that the broker computed.
func (e *EK) Challenge(rand io.Reader, akName, secret []byte) (*Challenge, error) {
	key, err := tpm2.ImportEncapsulationKey(e.public)
	if err != nil {
		return nil, fmt.Errorf("ek_public: %v", err)
	}
	blob, sealed, err := tpm2.CreateCredential(rand, key, akName, secret)
	if err != nil {
		return nil, fmt.Errorf("making the credential: %v", err)
	}
	return &Challenge{Blob: blob, Secret: sealed}, nil
}
