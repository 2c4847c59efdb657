// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// trusting returns the authorities of maker, read from a directory.
func trusting(t *testing.T, m *maker) *Authorities {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "vendor"), 0o700); err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "vendor", "chain.pem"), m.root, m.intermediate)
	if err := os.WriteFile(filepath.Join(dir, "signkey.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), 0o600); err != nil {
		t.Fatal(err)
	}
	a := open(t, dir)
	if a.Roots() != 1 {
		t.Fatalf("%d roots, want 1", a.Roots())
	}
	return a
}

func parseEK(t *testing.T, c *chip) *EK {
	t.Helper()
	ek, err := ParseEK(c.ekPublic())
	if err != nil {
		t.Fatal(err)
	}
	return ek
}

// TestRealCertificates reads what swtpm's manufacturing tool made: a root, an
// intermediate, and EK certificates with a critical directory name.
func TestRealCertificates(t *testing.T) {
	a := open(t, "testdata/root.pem", "testdata/issuer.pem")
	for _, name := range []string{"ek-rsa2048.der", "ek-secp384r1.der"} {
		der, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := parseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := leafKey(cert)
		must(t, err)
		ek := &EK{SPKI: spki}
		if err := a.CheckCertificate(ek, [][]byte{der}, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := open(t, "testdata/root.pem").CheckCertificate(ek, [][]byte{der}, now); err == nil {
			t.Errorf("%s: accepted without its intermediate", name)
		}
		intermediate, err := os.ReadFile("testdata/issuer.pem")
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(intermediate)
		if err := open(t, "testdata/root.pem").CheckCertificate(ek, [][]byte{der, block.Bytes}, now); err != nil {
			t.Errorf("%s: with the intermediate from the host: %v", name, err)
		}
	}
}

func TestPaddingAndWrapper(t *testing.T) {
	c, m := newChip(t, 0), newMaker(t)
	a, ek := trusting(t, m), parseEK(t, c)
	der := m.certificate(t, c.ek.Public(), nil)
	size := []byte{byte(len(der) >> 8), byte(len(der))}
	good := map[string][]byte{
		"plain":          der,
		"zeros behind":   append(bytes.Clone(der), make([]byte, 300)...),
		"ones behind":    append(bytes.Clone(der), bytes.Repeat([]byte{0xff}, 300)...),
		"in the wrapper": append(append([]byte{0x10, 1, 0}, size...), der...),
	}
	for name, raw := range good {
		if err := a.CheckCertificate(ek, [][]byte{raw}, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := map[string][]byte{
		"something behind": append(bytes.Clone(der), 0, 1, 2),
		"mixed padding":    append(bytes.Clone(der), 0, 0xff),
		"cut":              der[:len(der)-1],
		"wrapper too long": append([]byte{0x10, 1, 0, 0xff, 0xff}, der...),
		"long":             append(bytes.Clone(der), make([]byte, MaxCertificate)...),
		"nothing":          {},
	}
	for name, raw := range bad {
		if err := a.CheckCertificate(ek, [][]byte{raw}, now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCertificateRefused(t *testing.T) {
	c, other := newChip(t, 0), newChip(t, 1)
	m, thief := newMaker(t), newMaker(t)
	a, ek := trusting(t, m), parseEK(t, c)
	change := func(f func(*x509.Certificate)) [][]byte { return [][]byte{m.certificate(t, c.ek.Public(), f)} }
	cases := []struct {
		name, want string
		chain      [][]byte
		at         time.Time
	}{
		{"none", "no EK certificate", nil, now},
		{"too many", "at most 8", make([][]byte, MaxChain+1), now},
		{"of another maker", "signed by unknown authority", [][]byte{thief.certificate(t, c.ek.Public(), nil)}, now},
		{"another maker's whole chain", "signed by unknown authority", [][]byte{thief.certificate(t, c.ek.Public(), nil), thief.intermediate.Raw, thief.root.Raw}, now},
		{"of another TPM", "another key", [][]byte{m.certificate(t, other.ek.Public(), nil)}, now},
		{"of another purpose", "extended key usage", change(func(x *x509.Certificate) { x.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}} }), now},
		{"for TLS", "extended key usage", change(func(x *x509.Certificate) {
			x.UnknownExtKeyUsage, x.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), now},
		{"for signing", "key usage", change(func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageDigitalSignature }), now},
		{"an authority's", "authority's", change(func(x *x509.Certificate) { x.IsCA = true }), now},
		{"unknown critical extension", "unhandled critical", change(func(x *x509.Certificate) {
			e := x.ExtraExtensions[0]
			e.Id = asn1.ObjectIdentifier{1, 2, 3, 4}
			x.ExtraExtensions = append(x.ExtraExtensions, e)
		}), now},
		{"expired", "expired", change(nil), now.Add(2000 * time.Hour)},
		{"not yet valid", "not yet valid", change(nil), now.Add(-2 * time.Hour)},
		{"rubbish behind the leaf", "certificate 1 of the chain", [][]byte{m.certificate(t, c.ek.Public(), nil), {1, 2}}, now},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			if err := a.CheckCertificate(ek, x.chain, x.at); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want %q", err, x.want)
			}
		})
	}
	if err := a.CheckCertificate(ek, [][]byte{m.certificate(t, c.ek.Public(), nil)}, now); err != nil {
		t.Fatalf("the good certificate, on which the cases stand: %v", err)
	}
	// No extended key usage at all is allowed: early TPMs have none.
	if err := a.CheckCertificate(ek, change(func(x *x509.Certificate) { x.UnknownExtKeyUsage = nil }), now); err != nil {
		t.Errorf("without extended key usage: %v", err)
	}
	if err := open(t).CheckCertificate(ek, [][]byte{m.certificate(t, c.ek.Public(), nil)}, now); err == nil {
		t.Error("accepted by a broker without authorities")
	}
}

func TestOpenRefuses(t *testing.T) {
	m, dir := newMaker(t), t.TempDir()
	c := newChip(t, 0)
	leaf, err := x509.ParseCertificate(m.certificate(t, c.ek.Public(), nil))
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{"missing": filepath.Join(dir, "none.pem"), "empty directory": t.TempDir()}
	for name, certs := range map[string][]*x509.Certificate{"intermediate only": {m.intermediate}, "a leaf": {leaf}} {
		paths[name] = filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".pem")
		writePEM(t, paths[name], certs...)
	}
	for name, text := range map[string]string{"text": "hello", "key": "-----BEGIN PRIVATE KEY-----\nAQ==\n-----END PRIVATE KEY-----\n"} {
		paths[name] = filepath.Join(dir, name+".pem")
		if err := os.WriteFile(paths[name], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, path := range paths {
		if _, err := Open(path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEKRefused(t *testing.T) {
	good := func() tpm2.TPMTPublic {
		p, err := tpm2.Unmarshal[tpm2.TPMTPublic](newChip(t, 0).ekPublic())
		if err != nil {
			t.Fatal(err)
		}
		return *p
	}
	rsaUnique := func(n *big.Int) tpm2.TPMUPublicID {
		return tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: n.Bytes()})
	}
	cases := map[string]func(*tpm2.TPMTPublic){
		"signing key":    func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = true },
		"unrestricted":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false },
		"not decrypting": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = false },
		"movable":        func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false },
		"name algorithm": func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 },
		"ROCA":           func(p *tpm2.TPMTPublic) { p.Unique = rsaUnique(rocaModulus()) },
		"even modulus":   func(p *tpm2.TPMTPublic) { p.Unique = rsaUnique(new(big.Int).Lsh(big.NewInt(1), 2047)) },
		"short modulus":  func(p *tpm2.TPMTPublic) { p.Unique = rsaUnique(big.NewInt(15)) },
		"exponent 3": func(p *tpm2.TPMTPublic) {
			d, err := p.Parameters.RSADetail()
			if err != nil {
				t.Fatal(err)
			}
			d.Exponent = 3
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, d)
		},
		"no symmetric cipher": func(p *tpm2.TPMTPublic) {
			d, err := p.Parameters.RSADetail()
			if err != nil {
				t.Fatal(err)
			}
			d.Symmetric = tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, d)
		},
		"point off the curve": func(p *tpm2.TPMTPublic) {
			*p = tpm2.ECCEKTemplate
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: []byte{1}}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{1}}})
		},
		"long point": func(p *tpm2.TPMTPublic) {
			*p = tpm2.ECCEKTemplate
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: make([]byte, 33)}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{1}}})
		},
	}
	for name, change := range cases {
		p := good()
		change(&p)
		if _, err := ParseEK(tpm2.Marshal(p)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	raw := newChip(t, 0).ekPublic()
	for name, bytes := range map[string][]byte{"nothing": nil, "cut": raw[:len(raw)-1], "trailing byte": append(bytes.Clone(raw), 0), "long": make([]byte, MaxPublic+1)} {
		if _, err := ParseEK(bytes); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseEK(raw); err != nil {
		t.Errorf("the good key, on which the cases stand: %v", err)
	}
}

// rocaModulus returns a number of 2048 bits that is a power of 65537 modulo
// each of the primes.
func rocaModulus() *big.Int {
	m := big.NewInt(1)
	for _, p := range rocaPrimes {
		m.Mul(m, big.NewInt(p))
	}
	x := new(big.Int).Exp(big.NewInt(65537), big.NewInt(123457), m)
	k := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(3), 2046), m)
	for n := new(big.Int).Add(new(big.Int).Mul(k, m), x); ; n.Add(n, m) {
		if n.Bit(0) == 1 {
			return n
		}
	}
}

// TestChallenge is V21: the answer comes out of the right TPM for the right
// key, and out of no other.
func TestChallenge(t *testing.T) {
	c, other := newChip(t, 0), newChip(t, 1)
	secret := bytes.Repeat([]byte{7}, SecretSize)
	ch, err := parseEK(t, c).Challenge(rand.Reader, c.akName(t), secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(append(bytes.Clone(ch.Blob), ch.Secret...), secret) {
		t.Error("the challenge holds the secret")
	}
	if got, err := c.activate(t, ch.Blob, ch.Secret); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("got %x, %v", got, err)
	}
	if _, err := other.activate(t, ch.Blob, ch.Secret); err == nil {
		t.Error("another TPM opened it")
	}
	wrong, err := parseEK(t, c).Challenge(rand.Reader, other.akName(t), secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.activate(t, wrong.Blob, wrong.Secret); err == nil {
		t.Error("opened for another key's name")
	}
	if sum := sha256.Sum256(parseEK(t, c).SPKI); !bytes.Equal(parseEK(t, c).UEID(), append([]byte{1}, sum[:]...)) {
		t.Errorf("ueid %x", parseEK(t, c).UEID())
	}
}

func FuzzParseEK(f *testing.F) {
	f.Add(tpm2.Marshal(tpm2.RSAEKTemplate))
	f.Add(tpm2.Marshal(tpm2.ECCEKTemplate))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ek, err := ParseEK(raw)
		if err != nil {
			return
		}
		if _, err := ek.Challenge(rand.Reader, make([]byte, 34), make([]byte, SecretSize)); err != nil {
			t.Errorf("an EK that was taken cannot be challenged: %v", err)
		}
	})
}
