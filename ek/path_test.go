// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sha1Signed puts another signature under a certificate: SHA-1 with RSA, which
// crypto/x509 does not make.
func sha1Signed(t *testing.T, c *x509.Certificate, key *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	// Both algorithm identifiers are as long: the OIDs differ in their last byte.
	tbs := bytes.Clone(c.RawTBSCertificate)
	oid := []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}
	at := bytes.Index(tbs, oid)
	if at < 0 {
		t.Fatal("not signed with SHA-256 and RSA")
	}
	tbs[at+10] = 5
	sum := sha1.Sum(tbs)
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, sum[:])
	must(t, err)
	der, err := asn1.Marshal(struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	must(t, err)
	out, err := x509.ParseCertificate(der)
	must(t, err)
	if out.SignatureAlgorithm != x509.SHA1WithRSA {
		t.Fatal(out.SignatureAlgorithm)
	}
	return out
}

func rsaSigner(t *testing.T, n int) *rsa.PrivateKey { return newChip(t, n).ek }

// TestSHA1 is about the one leniency in paths: a signature with SHA-1 between
// two certificates that are both installed.
func TestSHA1(t *testing.T) {
	rootKey, key, leafKey := rsaSigner(t, 1), rsaSigner(t, 2), newChip(t, 0).ek.Public()
	rootT := authorityTemplate("Old Root")
	root := sha1Signed(t, issue(t, rootT, rootT, rootKey.Public(), rootKey), rootKey)
	plain := issue(t, authorityTemplate("Old Intermediate"), root, key.Public(), rootKey)
	inter := sha1Signed(t, plain, rootKey)
	below := issue(t, authorityTemplate("Newer Intermediate"), inter, rsaSigner(t, 3).Public(), key)
	m := &maker{root: root, intermediate: inter, key: key}
	leaf := m.certificate(t, leafKey, nil)
	lower := (&maker{root: root, intermediate: below, key: rsaSigner(t, 3)}).certificate(t, leafKey, nil)
	parsed, err := x509.ParseCertificate(leaf)
	must(t, err)
	weak := sha1Signed(t, parsed, key).Raw

	dir := t.TempDir()
	writePEM(t, filepath.Join(dir, "all.pem"), inter, root)
	a := open(t, dir)
	v := a.Examine([][]byte{leaf}, nil, now)
	if !v.OK() || len(v.Path) != 3 || v.Path[2].Certificate.Subject.CommonName != "Old Root" {
		t.Errorf("both installed: %v, %v", v.Err(), v.Path)
	}
	if v := a.Examine([][]byte{lower, below.Raw}, nil, now); !v.OK() || len(v.Path) != 4 {
		t.Errorf("below it: %v", v.Err())
	}
	if v := a.Examine([][]byte{weak}, nil, now); v.OK() {
		t.Error("a leaf signed with SHA-1 was taken")
	}
	writePEM(t, filepath.Join(dir, "all.pem"), root)
	if v := open(t, dir).Examine([][]byte{leaf, inter.Raw}, nil, now); v.OK() || v.Findings[0].Code != CodeChain {
		t.Errorf("the intermediate came from the host: %v", v.Err())
	}
	// Time and path length are held against what stands above, too.
	rootT.NotAfter = now.Add(10 * time.Hour)
	short := sha1Signed(t, issue(t, rootT, rootT, rootKey.Public(), rootKey), rootKey)
	writePEM(t, filepath.Join(dir, "all.pem"), short, inter)
	if v := open(t, dir).Examine([][]byte{leaf}, nil, now.Add(11*time.Hour)); v.OK() || v.Findings[0].Code != CodeExpired {
		t.Errorf("the root has expired: %v", v.Err())
	}
	rootT.NotAfter, rootT.MaxPathLenZero = now.Add(1000*time.Hour), true
	zero := sha1Signed(t, issue(t, rootT, rootT, rootKey.Public(), rootKey), rootKey)
	writePEM(t, filepath.Join(dir, "all.pem"), zero, inter)
	if v := open(t, dir).Examine([][]byte{leaf}, nil, now); v.OK() || v.Findings[0].Code != CodeChain {
		t.Errorf("the root allows no intermediate: %v", v.Err())
	}
	// A forged signature stays one.
	forged := sha1Signed(t, plain, key)
	writePEM(t, filepath.Join(dir, "all.pem"), root, forged)
	if v := open(t, dir).Examine([][]byte{leaf}, nil, now); v.OK() {
		t.Error("an intermediate that the root did not sign was taken")
	}
}

// TestAuthorityKeys: keys of authorities have bounds, from the host too.
func TestAuthorityKeys(t *testing.T) {
	m := newMaker(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	template := authorityTemplate("Small")
	root := issue(t, template, template, small.Public(), small)
	file := filepath.Join(t.TempDir(), "small.pem")
	writePEM(t, file, root)
	if _, err := Open(BundleNone, file); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("installed: %v", err)
	}
	inter := issue(t, authorityTemplate("Small Intermediate"), m.root, small.Public(), m.rootKey)
	leaf := (&maker{root: m.root, intermediate: inter, key: small}).certificate(t, newChip(t, 0).ek.Public(), nil)
	if v := trusting(t, m).Examine([][]byte{leaf, inter.Raw}, nil, now); v.OK() || v.Findings[0].Code != CodeKey {
		t.Errorf("from the host: %v", v.Err())
	}
}

// TestNamedLikeARoot: a certificate that names itself as its issuer, and that
// another key signed, is no root.
func TestNamedLikeARoot(t *testing.T) {
	m, key := newMaker(t), newECKey(t, elliptic.P256())
	template := authorityTemplate("Test TPM Root")
	likeness := issue(t, template, template, key.Public(), newECKey(t, elliptic.P256()))
	file := filepath.Join(t.TempDir(), "both.pem")
	writePEM(t, file, m.root, likeness)
	a := open(t, file)
	if one := a.Find(likeness); a.Roots() != 1 || one == nil || one.Root {
		t.Errorf("%d roots", a.Roots())
	}
	leaf := (&maker{root: m.root, intermediate: likeness, key: key}).certificate(t, newChip(t, 0).ek.Public(), nil)
	if v := a.Examine([][]byte{leaf}, nil, now); v.OK() {
		t.Error("believed")
	}
}

// TestHintsAreHints: what the host sends can help and cannot harm.
func TestHintsAreHints(t *testing.T) {
	m, thief := newMaker(t), newMaker(t)
	key := newChip(t, 0).ek.Public()
	file := filepath.Join(t.TempDir(), "root.pem")
	writePEM(t, file, m.root)
	a := open(t, file)
	leaf := m.certificate(t, key, nil)
	for name, c := range map[string]struct {
		hints [][]byte
		ok    bool
	}{
		"none":                 {nil, false},
		"the right one":        {[][]byte{m.intermediate.Raw}, true},
		"others too":           {[][]byte{thief.root.Raw, thief.intermediate.Raw, m.intermediate.Raw, m.root.Raw}, true},
		"the same many times":  {slices.Repeat([][]byte{m.intermediate.Raw}, MaxChain-1), true},
		"the leaf as its own":  {[][]byte{leaf}, false},
		"one that is no maker": {[][]byte{m.certificate(t, newChip(t, 1).ek.Public(), nil)}, false},
	} {
		if v := a.Examine(append([][]byte{leaf}, c.hints...), nil, now); v.OK() != c.ok {
			t.Errorf("%s: %v", name, v.Err())
		}
	}
	// Hints of one host are not there for the next.
	if v := a.Examine([][]byte{leaf}, nil, now); v.OK() {
		t.Error("a hint was kept")
	}
	// A leaf must not vouch for another.
	under := (&maker{root: m.root, intermediate: parse(t, leaf), key: newChip(t, 0).ek}).certificate(t, newChip(t, 1).ek.Public(), nil)
	if v := a.Examine([][]byte{under, leaf, m.intermediate.Raw}, nil, now); v.OK() {
		t.Error("an EK signed for another EK")
	}
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return c
}

// TestFolders: which folder says what.
func TestFolders(t *testing.T) {
	m, other := newMaker(t), newMaker(t)
	dir := t.TempDir()
	for _, d := range []string{"acme", "cloud/example"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	writePEM(t, filepath.Join(dir, "acme", "a.pem"), m.root)
	writePEM(t, filepath.Join(dir, "cloud", "example", "b.PEM"), other.root)
	must(t, os.WriteFile(filepath.Join(dir, "acme", "README"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "acme", "b.der"), m.intermediate.Raw, 0o600))
	a := open(t, dir)
	if a.Roots() != 2 || len(a.All()) != 3 {
		t.Fatalf("%d roots of %d", a.Roots(), len(a.All()))
	}
	if one := a.Find(other.root); one == nil || one.Vendor != "example" || !one.Cloud {
		t.Errorf("%+v", one)
	}
	if one := a.Find(m.intermediate); one == nil || one.Vendor != "acme" || one.Cloud || one.Root {
		t.Errorf("%+v", one)
	}
	// A folder that only has rules is one.
	rules := t.TempDir()
	must(t, os.WriteFile(filepath.Join(rules, RulesFile), []byte("deny manufacturer NTC\n"), 0o600))
	if a := open(t, rules, dir); a.Rules.Len() != 1 || a.Roots() != 2 {
		t.Errorf("%d rules", a.Rules.Len())
	}
	must(t, os.WriteFile(filepath.Join(rules, RulesFile), []byte("deny manufactuer NTC\n"), 0o600))
	if _, err := Open(BundleNone, rules); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a mistyped rule: %v", err)
	}
	if _, err := Open("some"); err == nil {
		t.Error("a bundle that is none")
	}
}
