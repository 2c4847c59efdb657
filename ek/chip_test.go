// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto"
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
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// chip is a TPM in arithmetic: an EK and an AK.
type chip struct {
	ek *rsa.PrivateKey
	ak *ecdsa.PrivateKey
}

// eks are endorsement keys by number: making one takes long.
var eks sync.Map

func newChip(t testing.TB, number int) *chip {
	t.Helper()
	known, ok := eks.Load(number)
	if !ok {
		fresh, err := rsa.GenerateKey(rand.Reader, 2048)
		must(t, err)
		known, _ = eks.LoadOrStore(number, fresh)
	}
	return &chip{known.(*rsa.PrivateKey), newECKey(t, elliptic.P256())}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newECKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(t, err)
	return key
}

func (c *chip) ekPublic() []byte {
	p := tpm2.RSAEKTemplate
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: c.ek.N.Bytes()})
	return tpm2.Marshal(p)
}

func eccPublic(t testing.TB, key *ecdsa.PublicKey, p tpm2.TPMTPublic) []byte {
	t.Helper()
	point, err := key.Bytes()
	must(t, err)
	half := len(point) / 2
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+half]}, Y: tpm2.TPM2BECCParameter{Buffer: point[1+half:]}})
	return tpm2.Marshal(p)
}

func (c *chip) akPublic(t testing.TB) []byte {
	return eccPublic(t, &c.ak.PublicKey, tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}),
	})
}

func (c *chip) akName(t testing.TB) []byte {
	sum := sha256.Sum256(c.akPublic(t))
	return append([]byte{0, 0x0b}, sum[:]...)
}

// activate is TPM2_ActivateCredential for the AK (part 1 section 24).
func (c *chip) activate(t testing.TB, blob, secret []byte) ([]byte, error) {
	t.Helper()
	seed, err := rsa.DecryptOAEP(sha256.New(), nil, c.ek, secret, []byte("IDENTITY\x00"))
	if err != nil {
		return nil, err
	}
	mac, sealed := blob[2:34], blob[34:]
	h := hmac.New(sha256.New, kdfa(seed, "INTEGRITY", nil, 256))
	h.Write(sealed)
	h.Write(c.akName(t))
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil, errors.New("TPM_RC_INTEGRITY")
	}
	block, err := aes.NewCipher(kdfa(seed, "STORAGE", c.akName(t), 128))
	must(t, err)
	plain, pad := make([]byte, len(sealed)), make([]byte, aes.BlockSize)
	for at := 0; at < len(sealed); at += aes.BlockSize {
		block.Encrypt(pad, pad)
		n := subtle.XORBytes(plain[at:], sealed[at:], pad)
		copy(pad, sealed[at:at+n])
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

// quote is TPM2_Quote by the AK.
func (c *chip) quote(t testing.TB, extra []byte, change func(*tpm2.TPMSAttest)) (attest, signature []byte) {
	t.Helper()
	a := tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, QualifiedSigner: tpm2.TPM2BName{Buffer: qualifiedName(c.akPublic(t))},
		ExtraData: tpm2.TPM2BData{Buffer: extra}, ClockInfo: tpm2.TPMSClockInfo{Safe: true},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{PCRDigest: tpm2.TPM2BDigest{Buffer: make([]byte, 32)}}),
	}
	if change != nil {
		change(&a)
	}
	attest = tpm2.Marshal(a)
	return attest, c.sign(t, attest)
}

func (c *chip) sign(t testing.TB, message []byte) []byte {
	sum := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, c.ak, sum[:])
	must(t, err)
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()}})})
}

// maker is a manufacturer of TPMs with a root and an intermediate.
type maker struct {
	root, intermediate *x509.Certificate
	rootKey, key       crypto.Signer
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour)}
}

func newMaker(t testing.TB) *maker {
	t.Helper()
	m := &maker{rootKey: newECKey(t, elliptic.P256()), key: newECKey(t, elliptic.P256())}
	root := authorityTemplate("Test TPM Root")
	m.root = issue(t, root, root, m.rootKey.Public(), m.rootKey)
	m.intermediate = issue(t, authorityTemplate("Test TPM Intermediate"), m.root, m.key.Public(), m.rootKey)
	return m
}

func issue(t testing.TB, template, parent *x509.Certificate, public any, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

// certificate returns an EK certificate for key, changed by change, in DER.
func (m *maker) certificate(t testing.TB, key any, change func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x2a11), NotBefore: m.root.NotBefore, NotAfter: m.root.NotAfter, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageKeyEncipherment, UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidEKCertificate},
		ExtraExtensions: []pkix.Extension{san(t, true, "id:49465800", "SLB9670", "id:073E")},
	}
	if change != nil {
		change(template)
	}
	return issue(t, template, m.intermediate, key, m.key).Raw
}

// san is a subject alternative name as EK certificates have it. What is empty
// is left out.
func san(t testing.TB, critical bool, manufacturer, model, version string) pkix.Extension {
	t.Helper()
	var name pkix.Name
	for i, value := range []string{manufacturer, model, version} {
		if value != "" {
			name.ExtraNames = append(name.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 23, 133, 2, i + 1}, Value: value})
		}
	}
	der, err := asn1.Marshal(name.ToRDNSequence())
	must(t, err)
	return pkix.Extension{Id: oidSAN, Critical: critical, Value: directoryNames(t, der)}
}

func directoryNames(t testing.TB, names ...[]byte) []byte {
	t.Helper()
	var all []asn1.RawValue
	for _, n := range names {
		all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: n})
	}
	der, err := asn1.Marshal(all)
	must(t, err)
	return der
}

func writePEM(t testing.TB, path string, certs ...*x509.Certificate) {
	t.Helper()
	var out bytes.Buffer
	for _, c := range certs {
		must(t, pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	must(t, os.WriteFile(path, out.Bytes(), 0o600))
}

func open(t testing.TB, paths ...string) *Authorities {
	t.Helper()
	a, err := Open(BundleNone, paths...)
	must(t, err)
	return a
}
