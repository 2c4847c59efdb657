// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
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
		cert, err := ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		ek := &EK{SPKI: cert.SPKI}
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

// findings returns the codes of a verdict.
func findings(v *Verdict) []Code {
	out := []Code{}
	for _, f := range v.Findings {
		out = append(out, f.Code)
	}
	return out
}

// TestCertificateRefused: one fault, one code, and nothing else is found.
func TestCertificateRefused(t *testing.T) {
	c, other := newChip(t, 0), newChip(t, 1)
	m, thief := newMaker(t), newMaker(t)
	a, spki := trusting(t, m), parseEK(t, c).SPKI
	key := c.ek.Public()
	good := m.certificate(t, key, nil)
	change := func(f func(*x509.Certificate)) [][]byte { return [][]byte{m.certificate(t, key, f)} }
	named := func(e pkix.Extension) [][]byte {
		return change(func(x *x509.Certificate) { x.ExtraExtensions = []pkix.Extension{e} })
	}
	san3 := func(values ...string) []byte { return san(t, true, values[0], values[1], values[2]).Value }
	cases := []struct {
		name  string
		code  Code
		chain [][]byte
		at    time.Time
	}{
		{"none", CodeNone, nil, now},
		{"too many", CodeTooLarge, make([][]byte, MaxChain+1), now},
		{"too long", CodeTooLarge, [][]byte{append(bytes.Clone(good), make([]byte, MaxCertificate)...)}, now},
		{"rubbish", CodeMalformed, [][]byte{{1, 2}}, now},
		{"of another maker", CodeChain, [][]byte{thief.certificate(t, key, nil)}, now},
		{"another maker's whole chain", CodeChain, [][]byte{thief.certificate(t, key, nil), thief.intermediate.Raw, thief.root.Raw}, now},
		{"of another TPM", CodeMismatch, [][]byte{m.certificate(t, other.ek.Public(), nil)}, now},
		{"for an AK", CodeEKU, change(func(x *x509.Certificate) { x.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidAIKCertificate} }), now},
		{"for TLS", CodeEKU, change(func(x *x509.Certificate) {
			x.UnknownExtKeyUsage, x.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), now},
		{"for signing", CodeUsage, change(func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageDigitalSignature }), now},
		{"an authority's", CodeAuthority, change(func(x *x509.Certificate) { x.IsCA = true }), now},
		{"unknown critical extension", CodeProfile, change(func(x *x509.Certificate) {
			e := x.ExtraExtensions[0]
			e.Id = asn1.ObjectIdentifier{1, 2, 3, 4}
			x.ExtraExtensions = append(x.ExtraExtensions, e)
		}), now},
		{"expired", CodeExpired, change(func(x *x509.Certificate) { x.NotAfter = now.Add(-time.Second) }), now},
		{"not yet valid", CodeNotYet, change(func(x *x509.Certificate) { x.NotBefore = now.Add(time.Second) }), now},
		{"outlived its authority", CodeExpired, change(func(x *x509.Certificate) { x.NotAfter = now.Add(9000 * time.Hour) }), now.Add(8000 * time.Hour)},
		{"older than its authority", CodeNotYet, change(func(x *x509.Certificate) { x.NotBefore = now.Add(-90 * time.Hour) }), now.Add(-80 * time.Hour)},
		{"rubbish behind the leaf", CodeMalformed, [][]byte{good, {1, 2}}, now},
		{"neither subject nor name", CodeSAN, change(func(x *x509.Certificate) { x.ExtraExtensions = nil }), now},
		{"name not critical", CodeSAN, named(san(t, false, "id:49465800", "", "")), now},
		{"name without TPM", CodeSAN, named(pkix.Extension{Id: oidSAN, Critical: true, Value: directoryNames(t, []byte{0x30, 0})}), now},
		{"name without manufacturer", CodeSAN, named(san(t, true, "", "SLB9670", "id:073E")), now},
		{"manufacturer that is none", CodeSAN, named(san(t, true, "id:4946580", "", "")), now},
		{"two manufacturers", CodeSAN, named(pkix.Extension{Id: oidSAN, Critical: true, Value: slices.Concat([]byte{0x30, byte(2 * (len(san3("id:49465800", "", "")) - 2))},
			san3("id:49465800", "", "")[2:], san3("id:53544D20", "", "")[2:])}), now},
		{"key of 1024 bits", CodeKey, [][]byte{m.certificate(t, shortKey(t), nil)}, now},
		{"exponent 3", CodeKey, [][]byte{m.certificate(t, &rsa.PublicKey{N: c.ek.N, E: 3}, nil)}, now},
		{"key on P-521", CodeKey, [][]byte{m.certificate(t, newECKey(t, elliptic.P521()).Public(), nil)}, now},
		{"ROCA", CodeROCA, [][]byte{m.certificate(t, &rsa.PublicKey{N: rocaModulus(), E: 65537}, nil)}, now},
	}
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			want := spki
			if x.code == CodeKey || x.code == CodeROCA {
				want = nil // there is no TPM with such a key
			}
			v := a.Examine(x.chain, want, x.at)
			if v.OK() || !slices.Equal(findings(v), []Code{x.code}) {
				t.Errorf("got %v (%v), want %s", findings(v), v.Err(), x.code)
			}
		})
	}
	if err := a.CheckCertificate(parseEK(t, c), [][]byte{good}, now); err != nil {
		t.Fatalf("the good certificate, on which the cases stand: %v", err)
	}
	if v := open(t).Examine([][]byte{good}, spki, now); v.OK() || v.Findings[0].Code != CodeChain {
		t.Errorf("without authorities: %v", v.Err())
	}
	// crypto/x509 makes no other version to try it with.
	old, err := ParseCertificate(good)
	must(t, err)
	if old.Version = 1; len(old.checkProfile(&forEK)) != 1 {
		t.Error("version 1 was taken")
	}
	if new(Verdict).OK() || new(Verdict).Err() == nil {
		t.Error("a verdict that nobody reached is a yes")
	}
}

// TestCloudNames: what a cloud's authority may leave out, and what it may not.
func TestCloudNames(t *testing.T) {
	p, cloudy := cloud(t)
	key := newChip(t, 0).ek.Public()
	bare := p.certificate(t, key, func(x *x509.Certificate) { x.ExtraExtensions = nil })
	if v := cloudy.Examine([][]byte{bare}, nil, now); !slices.Equal(findings(v), []Code{CodeSAN}) {
		t.Errorf("a cloud's without any name: %v", findings(v))
	}
	twice := p.certificate(t, key, func(x *x509.Certificate) {
		one := san(t, true, "id:49465800", "", "").Value[2:]
		x.ExtraExtensions[0].Value = slices.Concat([]byte{0x30, byte(2 * len(one))}, one, one)
	})
	if v := cloudy.Examine([][]byte{twice}, nil, now); !slices.Equal(findings(v), []Code{CodeSAN}) {
		t.Errorf("a cloud's with two manufacturers: %v", findings(v))
	}
	machine := p.certificate(t, key, func(x *x509.Certificate) { x.Subject, x.ExtraExtensions = pkix.Name{CommonName: "vm"}, nil })
	if v := cloudy.Examine([][]byte{machine}, nil, now); !v.OK() {
		t.Errorf("a cloud's that names the machine: %v", v.Err())
	}
}

func shortKey(t *testing.T) *rsa.PublicKey {
	n, err := rand.Prime(rand.Reader, 1024)
	must(t, err)
	return &rsa.PublicKey{N: n, E: 65537}
}

// TestCertificateTaken: what real TPMs have and the profile allows.
func TestCertificateTaken(t *testing.T) {
	m := newMaker(t)
	a, p384, rsa3072 := trusting(t, m), newECKey(t, elliptic.P384()).Public(), rsaKeyOf(t, 3072)
	agreement := func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageKeyAgreement }
	key := newChip(t, 0).ek.Public()
	for name, der := range map[string][]byte{
		"P-384":                 m.certificate(t, p384, agreement),
		"P-256":                 m.certificate(t, newECKey(t, elliptic.P256()).Public(), agreement),
		"RSA 3072":              m.certificate(t, rsa3072, nil),
		"no extended key usage": m.certificate(t, key, func(x *x509.Certificate) { x.UnknownExtKeyUsage = nil }),
		"no end":                m.certificate(t, key, func(x *x509.Certificate) { x.NotAfter = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }),
		"a subject, and a name that is not critical": m.certificate(t, key, func(x *x509.Certificate) {
			x.Subject, x.ExtraExtensions = pkix.Name{CommonName: "x"}, []pkix.Extension{san(t, false, "id:49465800", "m", "id:00070026")}
		}),
	} {
		v := a.Examine([][]byte{der}, nil, now)
		if !v.OK() {
			t.Errorf("%s: %v", name, v.Err())
			continue
		}
		if len(v.Path) != 3 || v.Path[0].Origin != OriginHost || v.Path[1].Vendor != "vendor" || v.Path[2].Origin != OriginOperator || !v.Leaf.TPM.Named {
			t.Errorf("%s: path %+v", name, v.Path)
		}
	}
}

func rsaKeyOf(t *testing.T, bits int) crypto.PublicKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	must(t, err)
	return k.Public()
}

// TestOAEPKey: early TPMs have their RSA key under the OID of OAEP.
func TestOAEPKey(t *testing.T) {
	c, m := newChip(t, 0), newMaker(t)
	der := m.certificate(t, c.ek.Public(), nil)
	// The OID for RSA and the one for OAEP differ in their last byte, and what
	// is signed is not looked at here.
	spki := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05}
	at := bytes.Index(der, spki)
	if at < 0 {
		t.Fatal("no key")
	}
	der[at+10] = 7
	cert, err := ParseCertificate(der)
	must(t, err)
	if !bytes.Equal(cert.SPKI, parseEK(t, c).SPKI) || len(cert.Notes) != 1 {
		t.Errorf("key %x, notes %v", cert.SPKI, cert.Notes)
	}
	der[at+10] = 8
	if _, err := ParseCertificate(der); err == nil {
		t.Error("a key of an unknown kind was taken")
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
	for name, certs := range map[string][]*x509.Certificate{"intermediate only": {m.intermediate}, "a leaf": {leaf, m.root}} {
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
		if _, err := Open(BundleNone, path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
