// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"
)

// EK is an endorsement key: the identity that the TPM's maker gave it.
type EK struct {
	Algorithm   string   // "rsa-2048", "ecc-p256" or "ecc-p384"
	Public      []byte   // TPMT_PUBLIC
	Certificate []byte   // DER, as the TPM's maker left it in NV memory; nil if there is none for this key
	Chain       [][]byte // DER, what else the maker left: intermediates, in no promised order
	// CertificateErr says why the certificate that is in NV memory was not
	// taken; nil if it was, or if there is none.
	CertificateErr error
}

// ekKind is one of the EKs that a TPM may have (EK credential profile for
// TPM 2.0, section 2.2.1 and annex B).
type ekKind struct {
	algorithm   string
	certificate tpm2.TPMHandle // NV index
	nonce       tpm2.TPMHandle // NV index of what the maker put into the template's unique field; 0: never
	persistent  tpm2.TPMHandle // where makers and operating systems keep the key
	template    tpm2.TPMTPublic
	byPolicy    bool // used through PolicySecret(endorsement), as against the empty password
	optional    bool // of interest only with a certificate
}

// ekKinds is in the order of preference: the one that every verifier takes
// first.
var ekKinds = []ekKind{
	{algorithm: "rsa-2048", certificate: 0x01c00002, nonce: 0x01c00003, persistent: 0x81010001, template: tpm2.RSAEKTemplate, byPolicy: true},
	{algorithm: "ecc-p256", certificate: 0x01c0000a, nonce: 0x01c0000b, persistent: 0x81010002, template: tpm2.ECCEKTemplate, byPolicy: true},
	{algorithm: "ecc-p384", certificate: 0x01c00016, persistent: 0x81010016, template: p384EKTemplate, optional: true},
}

// p384EKTemplate is template H-3 of the EK credential profile, annex B.4.5.
var p384EKTemplate = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA384,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM:            true,
		FixedParent:         true,
		SensitiveDataOrigin: true,
		UserWithAuth:        true,
		AdminWithPolicy:     true,
		Restricted:          true,
		Decrypt:             true,
	},
	// PolicyB with SHA-384: PolicyOR(PolicySecret(endorsement), PolicyAuthorizeNV(0x01c07f02))
	AuthPolicy: tpm2.TPM2BDigest{Buffer: []byte{
		0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc,
		0xf5, 0xfd, 0x3a, 0x1a, 0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4,
		0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47, 0xba, 0x09,
		0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
	}},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		CurveID: tpm2.TPMECCNistP384,
	}),
	Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
}

// EKs lists the TPM's endorsement keys, those with a certificate first. RSA
// 2048 and P-256 are listed without one too, so that an operator can pin them;
// P-384 only with one. Nothing is made persistent. An RSA key that the TPM has
// to make anew takes it seconds.
func (d *Device) EKs(ctx context.Context) ([]EK, error) {
	defined, err := d.handles(ctx, nvFirst, nvLast)
	if err != nil {
		return nil, err
	}
	chain, err := d.chain(ctx, defined)
	if err != nil {
		return nil, err
	}
	var with, without []EK
	for _, kind := range ekKinds {
		ek, err := d.ek(ctx, kind, defined)
		switch {
		case errors.Is(err, errNoIndex), err != nil && ek.Certificate == nil && unsupported(err):
			continue
		case err != nil:
			return nil, fmt.Errorf("endorsement key %s: %w", kind.algorithm, err)
		}
		if ek.Certificate != nil {
			ek.Chain = chain
			with = append(with, ek)
		} else {
			without = append(without, ek)
		}
	}
	if len(with)+len(without) == 0 {
		return nil, errors.New("the TPM makes no endorsement key of a known kind")
	}
	return append(with, without...), nil
}

// unsupported tells whether the TPM does not know the kind of key at all.
func unsupported(err error) bool {
	for _, rc := range []tpm2.TPMRC{
		tpm2.TPMRCAsymmetric, tpm2.TPMRCCurve, tpm2.TPMRCValue, tpm2.TPMRCKeySize,
		tpm2.TPMRCSymmetric, tpm2.TPMRCHash, tpm2.TPMRCType, tpm2.TPMRCScheme, tpm2.TPMRCKDF,
	} {
		if errors.Is(err, rc) {
			return true
		}
	}
	return false
}

// ek reads one kind's certificate and public area and holds them together.
func (d *Device) ek(ctx context.Context, kind ekKind, defined []tpm2.TPMHandle) (EK, error) {
	ek := EK{Algorithm: kind.algorithm}
	var certificate *x509.Certificate
	raw, err := d.readNVIf(ctx, defined, kind.certificate)
	if err == nil {
		certificate, err = attest.ParseEKCertificate(raw)
	}
	switch {
	case err == nil:
		ek.Certificate = certificate.Raw
	case errors.Is(err, ErrGone), ctx.Err() != nil:
		return ek, err
	case !errors.Is(err, errNoIndex):
		ek.CertificateErr = fmt.Errorf("EK certificate in NV index 0x%x: %w", uint32(kind.certificate), err)
	case kind.optional:
		return ek, err
	}
	k, err := d.loadEK(ctx, kind, defined)
	if err != nil {
		return ek, err
	}
	ek.Public = k.encoded
	public, err := tpm2.Pub(*k.public)
	if err = errors.Join(err, d.release(k)); err != nil {
		return ek, err
	}
	// Go does not know every way in which certificates name an RSA key. Then
	// the verifier, which has to compare anyway, is the only one to do so.
	if certificate != nil && certificate.PublicKey != nil && !sameKey(certificate.PublicKey, public) {
		ek.Certificate = nil
		ek.CertificateErr = fmt.Errorf("EK certificate in NV index 0x%x is for another key than the TPM makes", uint32(kind.certificate))
	}
	return ek, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// loadEK finds the key where it is usually kept, or has the TPM make it from
// the template. Release it when done.
func (d *Device) loadEK(ctx context.Context, kind ekKind, defined []tpm2.TPMHandle) (*key, error) {
	rsp, err := run(ctx, d.bus, tpm2.ReadPublic{ObjectHandle: kind.persistent})
	if err == nil {
		k, err := newKey(kind.persistent, rsp.OutPublic.Bytes(), kind.template)
		if err == nil {
			return k, nil
		}
		// Something else is kept there: make our own.
	} else if errors.Is(err, ErrGone) || ctx.Err() != nil {
		return nil, err
	}
	template := kind.template
	nonce, err := d.readNVIf(ctx, defined, kind.nonce)
	switch {
	case err == nil:
		template.Unique, err = withNonce(template, nonce)
		if err != nil {
			return nil, fmt.Errorf("EK nonce in NV index 0x%x: %w", uint32(kind.nonce), err)
		}
	case !errors.Is(err, errNoIndex):
		return nil, err
	}
	return d.createPrimary(ctx, template)
}

// withNonce puts the maker's nonce at the start of a template's unique field.
func withNonce(template tpm2.TPMTPublic, nonce []byte) (tpm2.TPMUPublicID, error) {
	field := func(size int) []byte { return append(bytes.Clone(nonce), make([]byte, max(0, size-len(nonce)))...) }
	switch size := map[tpm2.TPMAlgID]int{tpm2.TPMAlgRSA: 256, tpm2.TPMAlgECC: 32}[template.Type]; {
	case len(nonce) > size:
		return tpm2.TPMUPublicID{}, fmt.Errorf("has %d bytes, at most %d", len(nonce), size)
	case template.Type == tpm2.TPMAlgRSA:
		return tpm2.NewTPMUPublicID(template.Type, &tpm2.TPM2BPublicKeyRSA{Buffer: field(size)}), nil
	default:
		return tpm2.NewTPMUPublicID(template.Type, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: field(size)},
			Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, size)},
		}), nil
	}
}

// chain reads the intermediates that some makers keep in NV memory: one run of
// DER certificates, continued from index to index. What cannot be read as
// certificates is left out; a verifier that needs it will miss it.
func (d *Device) chain(ctx context.Context, defined []tpm2.TPMHandle) ([][]byte, error) {
	var run []byte
	count := 0
	for _, index := range defined {
		if index < nvChainFirst || index > nvChainLast || count == maxChain {
			continue
		}
		count++
		data, err := d.readNV(ctx, index)
		if errors.Is(err, ErrGone) || ctx.Err() != nil {
			return nil, err
		}
		if err == nil {
			run = append(run, data...)
		}
	}
	return splitCertificates(run), nil
}

// splitCertificates cuts a run of DER certificates apart, up to the first
// thing that is none.
func splitCertificates(run []byte) [][]byte {
	var chain [][]byte
	for len(run) > 0 {
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(run, &raw)
		if err != nil {
			break
		}
		if _, err := x509.ParseCertificate(raw.FullBytes); err != nil {
			break
		}
		chain, run = append(chain, raw.FullBytes), rest
	}
	return chain
}
