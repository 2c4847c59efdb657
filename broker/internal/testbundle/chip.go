// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package testbundle is a host for the broker's tests: a TPM that is only
// arithmetic, a log, and evidence made of both. No program links it.
//
// It follows the TPM specification for the two commands that matter here,
// TPM2_ActivateCredential and TPM2_Quote, so that what it makes is checked by
// the same code as the real thing. It keeps keys in the open.
package testbundle

import (
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Firmware is the version that every chip has.
const Firmware = 0x2019

// Chip is a TPM in arithmetic.
type Chip struct {
	ek *rsa.PrivateKey
	ak *ecdsa.PrivateKey
	// What TPM2_Quote reports. Tests turn these.
	Reset, Restart uint32
	Clock          uint64
	PCRs           [24][]byte
}

// eks are endorsement keys by number: making one takes long.
var eks sync.Map

// NewChip makes a TPM. Chips of different numbers have different endorsement
// keys; every chip has a fresh attestation key.
func NewChip(t testing.TB, number int) *Chip {
	t.Helper()
	known, ok := eks.Load(number)
	if !ok {
		fresh, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		known, _ = eks.LoadOrStore(number, fresh)
	}
	ek := known.(*rsa.PrivateKey)
	ak, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &Chip{ek: ek, ak: ak, Reset: 7, Restart: 0, Clock: 5_000_000}
	for i := range c.PCRs {
		c.PCRs[i] = PCR(i)
	}
	return c
}

// EKPublic returns the TPMT_PUBLIC of the endorsement key.
func (c *Chip) EKPublic() []byte {
	p := tpm2.RSAEKTemplate
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: c.ek.N.Bytes()})
	return tpm2.Marshal(p)
}

// EKSPKI returns the EK as SubjectPublicKeyInfo.
func (c *Chip) EKSPKI() []byte {
	der, err := x509.MarshalPKIXPublicKey(&c.ek.PublicKey)
	if err != nil {
		panic("testbundle: " + err.Error())
	}
	return der
}

// UEID returns what the host of this TPM calls itself.
func (c *Chip) UEID() []byte {
	sum := sha256.Sum256(c.EKSPKI())
	return append([]byte{1}, sum[:]...)
}

func (c *Chip) akPublic() tpm2.TPMTPublic {
	point, err := c.ak.PublicKey.Bytes()
	if err != nil {
		panic("testbundle: " + err.Error())
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256,
			KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}}),
	}
}

// AKPublic returns the TPMT_PUBLIC of the attestation key.
func (c *Chip) AKPublic() []byte { return tpm2.Marshal(c.akPublic()) }

// AKName returns its name.
//
//	name = nameAlg || SHA-256(TPMT_PUBLIC)
func (c *Chip) AKName() []byte {
	sum := sha256.Sum256(c.AKPublic())
	return append([]byte{0, 0x0b}, sum[:]...)
}

// qualified is the AK's qualified name as a primary of the endorsement hierarchy.
//
//	nameAlg || SHA-256(TPM_RH_ENDORSEMENT || name)
func (c *Chip) qualified() []byte {
	sum := sha256.Sum256(append([]byte{0x40, 0, 0, 0x0b}, c.AKName()...))
	return append([]byte{0, 0x0b}, sum[:]...)
}

// Activate is TPM2_ActivateCredential for the AK (part 1 section 24).
func (c *Chip) Activate(blob, secret []byte) ([]byte, error) {
	seed, err := rsa.DecryptOAEP(sha256.New(), nil, c.ek, secret, []byte("IDENTITY\x00"))
	if err != nil {
		return nil, err
	}
	if len(blob) < 34 {
		return nil, errors.New("short credential blob")
	}
	mac, sealed := blob[2:34], blob[34:]
	h := hmac.New(sha256.New, kdfa(seed, "INTEGRITY", nil, 256))
	h.Write(sealed)
	h.Write(c.AKName())
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil, errors.New("TPM_RC_INTEGRITY")
	}
	block, err := aes.NewCipher(kdfa(seed, "STORAGE", c.AKName(), 128))
	if err != nil {
		return nil, err
	}
	// AES in CFB mode with a zero IV (part 1 section 11.4.10.5).
	plain := make([]byte, len(sealed))
	pad := make([]byte, aes.BlockSize)
	for at := 0; at < len(sealed); at += aes.BlockSize {
		block.Encrypt(pad, pad)
		n := subtle.XORBytes(plain[at:], sealed[at:], pad)
		copy(pad, sealed[at:at+n])
	}
	if len(plain) < 2 || int(plain[0])<<8|int(plain[1]) != len(plain)-2 {
		return nil, errors.New("TPM_RC_SIZE")
	}
	return plain[2:], nil
}

// kdfa is KDFa with SHA-256 (part 1 section 11.4.10.2), for at most 256 bits.
func kdfa(key []byte, label string, context []byte, bits int) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte{0, 0, 0, 1})
	h.Write(append([]byte(label), 0))
	h.Write(context)
	h.Write([]byte{0, 0, byte(bits >> 8), byte(bits)})
	return h.Sum(nil)[:bits/8]
}

// Maker is a manufacturer of TPMs with a root and an intermediate.
type Maker struct {
	Root, Intermediate *x509.Certificate
	key                *ecdsa.PrivateKey
}

// NewMaker makes a manufacturer whose certificates are good around now.
func NewMaker(t testing.TB, now time.Time) *Maker {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour)}
	}
	rootKey, key := newKey(), newKey()
	m := &Maker{key: key}
	m.Root = sign(t, template("Test TPM Root"), nil, &rootKey.PublicKey, rootKey)
	m.Intermediate = sign(t, template("Test TPM Intermediate"), m.Root, &key.PublicKey, rootKey)
	return m
}

func sign(t testing.TB, template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Certificate returns an EK certificate for c, changed by change, in DER.
func (m *Maker) Certificate(t testing.TB, c *Chip, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(11), NotBefore: m.Root.NotBefore, NotAfter: m.Root.NotAfter, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageKeyEncipherment, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: directoryName(t)}},
	}
	if change != nil {
		change(template)
	}
	return sign(t, template, m.Intermediate, &c.ek.PublicKey, m.key).Raw
}

// AKCertificate returns what a cloud provider certifies: the AK, for signing.
func (m *Maker) AKCertificate(t testing.TB, c *Chip) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(12), Subject: pkix.Name{CommonName: "vm"}, NotBefore: m.Root.NotBefore, NotAfter: m.Root.NotAfter,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	return sign(t, template, m.Intermediate, &c.ak.PublicKey, m.key).Raw
}

// directoryName is a subject alternative name as EK certificates have it.
func directoryName(t testing.TB) []byte {
	t.Helper()
	name, err := asn1.Marshal(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 23, 133, 2, 1}, Value: "id:00001014"}}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Quote is TPM2_Quote over PCRs 0 to 15 of the SHA-256 bank.
func (c *Chip) Quote(t testing.TB, extra []byte, change func(*tpm2.TPMSAttest)) (attest, signature []byte) {
	t.Helper()
	h := sha256.New()
	for _, p := range c.PCRs[:16] {
		h.Write(p)
	}
	a := tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote,
		QualifiedSigner: tpm2.TPM2BName{Buffer: c.qualified()},
		ExtraData:       tpm2.TPM2BData{Buffer: extra},
		ClockInfo:       tpm2.TPMSClockInfo{Clock: c.Clock, ResetCount: c.Reset, RestartCount: c.Restart, Safe: true},
		FirmwareVersion: Firmware,
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
				{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{0xff, 0xff, 0}}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)},
		}),
	}
	if change != nil {
		change(&a)
	}
	attest = tpm2.Marshal(a)
	return attest, c.sign(t, attest)
}

func (c *Chip) sign(t testing.TB, message []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, c.ak, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA,
		&tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256,
			SignatureR: tpm2.TPM2BECCParameter{Buffer: r.FillBytes(make([]byte, 32))},
			SignatureS: tpm2.TPM2BECCParameter{Buffer: s.FillBytes(make([]byte, 32))}})})
}
