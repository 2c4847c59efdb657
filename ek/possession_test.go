// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/evidence"
)

// cloud returns a provider and the authorities that know it as one.
func cloud(t *testing.T) (*maker, *Authorities) {
	t.Helper()
	m, dir := newMaker(t), t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, cloudFolder), 0o700))
	writePEM(t, filepath.Join(dir, cloudFolder, "chain.pem"), m.root, m.intermediate)
	return m, open(t, dir)
}

// forSigning makes the template one of an AK certificate.
func forSigning(x *x509.Certificate) {
	x.Subject, x.KeyUsage, x.UnknownExtKeyUsage, x.ExtraExtensions = pkix.Name{CommonName: "vm-1"}, x509.KeyUsageDigitalSignature, nil, nil
}

func codeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// TestCloudAK: whose certificate makes an attestation key believed.
func TestCloudAK(t *testing.T) {
	m, a := cloud(t)
	c, other := newChip(t, 0), newChip(t, 1)
	ak := c.akPublic(t)
	with := func(change func(*x509.Certificate)) [][]byte {
		return [][]byte{m.certificate(t, c.ak.Public(), func(x *x509.Certificate) {
			forSigning(x)
			if change != nil {
				change(x)
			}
		})}
	}
	p384 := newECKey(t, elliptic.P384())
	public384 := eccPublic(t, &p384.PublicKey, func() tpm2.TPMTPublic {
		p, err := tpm2.Unmarshal[tpm2.TPMTPublic](ak)
		must(t, err)
		d, err := p.Parameters.ECCDetail()
		must(t, err)
		d.CurveID = tpm2.TPMECCNistP384
		p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, d)
		return *p
	}())
	cases := []struct {
		name  string
		code  Code
		ak    []byte
		chain [][]byte
	}{
		{"good", "", ak, with(nil)},
		{"marked as an AK's", "", ak, with(func(x *x509.Certificate) { x.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidAIKCertificate} })},
		{"marked as an EK's, as Google did", "", ak, with(func(x *x509.Certificate) { x.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidEKCertificate} })},
		{"none", CodeNone, ak, nil},
		{"another AK", CodeMismatch, other.akPublic(t), with(nil)},
		{"for another purpose", CodeEKU, ak, with(func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })},
		{"for encipherment too", CodeUsage, ak, with(func(x *x509.Certificate) { x.KeyUsage |= x509.KeyUsageKeyEncipherment })},
		{"for everything", CodeUsage, ak, with(func(x *x509.Certificate) { x.KeyUsage = 0 })},
		{"an RSA key", CodeAK, c.ekPublic(), with(nil)},
		{"a key on P-384", CodeAK, public384, [][]byte{m.certificate(t, p384.Public(), forSigning)}},
		{"no public area", CodeMalformed, nil, with(nil)},
		{"trailing byte", CodeMalformed, append(bytes.Clone(ak), 0), with(nil)},
		{"long", CodeTooLarge, make([]byte, MaxPublic+1), with(nil)},
	}
	for _, x := range cases {
		if err := a.CheckCloudAK(x.ak, x.chain, now); codeOf(err) != x.code {
			t.Errorf("%s: %v, want %q", x.name, err, x.code)
		}
	}
	// A maker of TPMs is no cloud, and an AK certificate is no EK's.
	maker := newMaker(t)
	cert := maker.certificate(t, c.ak.Public(), forSigning)
	if err := trusting(t, maker).CheckCloudAK(ak, [][]byte{cert}, now); codeOf(err) != CodeChain {
		t.Errorf("certified by a maker of TPMs: %v", err)
	}
	if v := a.Examine(with(nil), nil, now); v.OK() {
		t.Error("an AK certificate passes as an EK's")
	}
	if err := a.CheckCloudAK(ak, [][]byte{m.certificate(t, c.ak.Public(), nil)}, now); codeOf(err) != CodeUsage {
		t.Errorf("an EK certificate for the AK: %v", err)
	}
	a.Rules = rules(t, "deny certificate 2a11 CN=Test TPM Intermediate")
	if err := a.CheckCloudAK(ak, with(nil), now); codeOf(err) != CodeDenied {
		t.Errorf("denied: %v", err)
	}
	a.Rules = rules(t, "allow manufacturer GOOG")
	if err := a.CheckCloudAK(ak, with(nil), now); codeOf(err) != CodeManufacturer {
		t.Errorf("not allowed: %v", err)
	}
}

// TestPossession: only the AK itself, over this enrolment's secret.
func TestPossession(t *testing.T) {
	c, other := newChip(t, 0), newChip(t, 1)
	ak, secret := c.akPublic(t), bytes.Repeat([]byte{9}, SecretSize)
	extra := evidence.PossessionDigest(secret)
	attest, sig := c.quote(t, extra[:], nil)
	if err := CheckPossession(ak, secret, attest, sig); err != nil {
		t.Fatalf("the good quote, on which the cases stand: %v", err)
	}
	made := func(change func(*tpm2.TPMSAttest)) [2][]byte {
		a, s := c.quote(t, extra[:], change)
		return [2][]byte{a, s}
	}
	stranger, strangers := other.quote(t, extra[:], func(a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer = qualifiedName(ak) })
	old := evidence.PossessionDigest(bytes.Repeat([]byte{8}, SecretSize))
	certify := func(a *tpm2.TPMSAttest) {
		a.Type = tpm2.TPMSTAttestCertify
		a.Attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{})
	}
	flipped := bytes.Clone(attest)
	flipped[len(flipped)-1] ^= 1
	cases := map[string]struct {
		code Code
		pair [2][]byte
	}{
		"none":              {CodeAKProof, [2][]byte{}},
		"no signature":      {CodeAKProof, [2][]byte{attest, nil}},
		"of another secret": {CodeAKProof, made(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = old[:] })},
		"no secret":         {CodeAKProof, made(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = nil })},
		"the secret itself": {CodeAKProof, made(func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = secret })},
		"not a quote":       {CodeAKProof, made(certify)},
		"wrong magic":       {CodeAKProof, made(func(a *tpm2.TPMSAttest) { a.Magic = 1 })},
		"of another hierarchy": {CodeAKProof, made(func(a *tpm2.TPMSAttest) {
			a.QualifiedSigner.Buffer = append([]byte{0, 0x0b}, bytes.Repeat([]byte{1}, 32)...)
		})},
		"by another key":              {CodeAKProof, [2][]byte{stranger, strangers}},
		"changed afterwards":          {CodeAKProof, [2][]byte{flipped, sig}},
		"trailing byte":               {CodeMalformed, [2][]byte{append(bytes.Clone(attest), 0), sig}},
		"signature and more":          {CodeMalformed, [2][]byte{attest, append(bytes.Clone(sig), 0)}},
		"no structure":                {CodeMalformed, [2][]byte{{1}, sig}},
		"long":                        {CodeTooLarge, [2][]byte{bytes.Repeat([]byte{1}, maxProof+1), sig}},
		"signature that says SHA-384": {CodeAKProof, [2][]byte{attest, bytes.Replace(sig, []byte{0, 0x18, 0, 0x0b}, []byte{0, 0x18, 0, 0x0c}, 1)}},
		"RSA signature": {CodeAKProof, [2][]byte{attest, tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA,
			Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA, &tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256})})}},
	}
	for name, x := range cases {
		if err := CheckPossession(ak, secret, x.pair[0], x.pair[1]); codeOf(err) != x.code {
			t.Errorf("%s: %v, want %s", name, err, x.code)
		}
	}
	if err := CheckPossession(other.akPublic(t), secret, attest, sig); codeOf(err) != CodeAKProof {
		t.Errorf("for another AK: %v", err)
	}
}

func FuzzPossession(f *testing.F) {
	c := newChip(f, 0)
	extra := evidence.PossessionDigest(nil)
	attest, sig := c.quote(f, extra[:], nil)
	ak := c.akPublic(f)
	f.Add(attest, sig)
	f.Fuzz(func(t *testing.T, a, s []byte) {
		// An ECDSA signature may be written in two ways, a quote in one.
		if err := CheckPossession(ak, nil, a, s); err == nil && !bytes.Equal(a, attest) {
			t.Errorf("%x, %x accepted", a, s)
		}
	})
}
