// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-attestation/attest"
	x509ext "github.com/google/go-attestation/x509"

	"github.com/jurat-dev/jurat/internal/require"
)

// at is when the recorded certificates are judged.
var at = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func corpus(t *testing.T, parts ...string) string {
	t.Helper()
	dir := filepath.Join(append([]string{cmp.Or(os.Getenv("JURAT_CORPUS"), "../../shared/corpus")}, parts...)...)
	_, err := os.Stat(dir)
	require.Need(t, "corpus", err)
	return dir
}

func readDER(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	if block, _ := pem.Decode(data); block != nil {
		return block.Bytes
	}
	return data
}

// corpusRefused are the files of the corpus that do not parse, with the reason.
var corpusRefused = map[string]string{}

// TestCorpusParses reads every certificate of the corpus.
func TestCorpusParses(t *testing.T) {
	dir := corpus(t, "ek-certs")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	if len(files) < 50 {
		t.Fatalf("%d files", len(files))
	}
	for _, file := range files {
		name := filepath.Base(file)
		c, err := ParseCertificate(readDER(t, file))
		if reason, known := corpusRefused[name]; known || err != nil {
			if err == nil || !known || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s: %v, on record is %q", name, err, reason)
			}
			continue
		}
		if leaf := strings.HasSuffix(name, "_enc_cert.pem"); c.IsCA == leaf || len(c.SPKI) == 0 || len(c.Notes) > 0 {
			t.Errorf("%s: authority %v, notes %v", name, c.IsCA, c.Notes)
		}
		if c.IsCA {
			if v := new(Authorities).examineAlone(c); v != CodeAuthority {
				t.Errorf("%s: %s", name, v)
			}
		}
	}
}

// examineAlone returns the first finding about a certificate.
func (a *Authorities) examineAlone(c *Certificate) Code {
	a.Rules = new(Rules)
	return a.Examine([][]byte{c.Raw}, nil, at).Findings[0].Code
}

// TestCorpusAuthorities: what keylime keeps, Infineon's with SHA-1 among it,
// leads to roots that ship, except for makers whose roots do not.
func TestCorpusAuthorities(t *testing.T) {
	from := corpus(t, "ek-certs")
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(from, "*"))
	must(t, err)
	for _, file := range files {
		if !strings.HasSuffix(file, "_enc_cert.pem") {
			must(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)+".der"), readDER(t, file), 0o600))
		}
	}
	a, err := Open(BundleShipped, dir)
	must(t, err)
	var nowhere, expired []string
	for _, one := range a.All() {
		if one.Root || one.parent != nil {
			if one.parent != nil && at.After(one.Certificate.NotAfter) {
				expired = append(expired, one.Certificate.Subject.CommonName)
			}
			continue
		}
		if _, _, err := a.path(&Certificate{Certificate: one.Certificate}, nil, &forEK, at); err != nil {
			nowhere = append(nowhere, one.Certificate.Subject.CommonName)
		}
	}
	if want := []string{"Aliyun TPM EKMF CA"}; !slices.Equal(nowhere, want) {
		t.Errorf("lead nowhere: %v, want %v", nowhere, want)
	}
	if want := []string{"IFX TPM EK Intermediate CA 01"}; !slices.Equal(expired, want) {
		t.Errorf("expired: %v, want %v", expired, want)
	}
}

// corpusLeaf is a real EK certificate and what has to come of it.
type corpusLeaf struct {
	file, bundle string
	roots        []string
	maker        string
	path         int
	google       string // what go-attestation says against it
}

func corpusLeaves(t *testing.T) []corpusLeaf {
	dir := corpus(t)
	out := []corpusLeaf{
		{"ek-certs/gce-uca_tpm_rsa_enc_cert.pem", "shipped", nil, "id:474F4F47 (Google)", 3, ""},
		{"ek-certs/gce-uca_tpm_ecc_enc_cert.pem", "shipped", nil, "id:474F4F47 (Google)", 3, ""},
		// Google's newer authority names the machine, not the TPM, and says no
		// purpose. We take that from a cloud's authority only.
		{"ek-certs/gce-pca_tpm_rsa_enc_cert.pem", "shipped", nil, "", 3, "SubjectAltName is missing"},
		{"ek-certs/gce-pca_tpm_ecc_enc_cert.pem", "shipped", nil, "", 3, "SubjectAltName is missing"},
	}
	machines, err := filepath.Glob(filepath.Join(dir, "vm", "*", "ek-*.der"))
	must(t, err)
	for _, m := range machines {
		name, err := filepath.Rel(dir, m)
		must(t, err)
		out = append(out, corpusLeaf{name, "none", []string{"vm/issuercert.pem", "vm/swtpm-localca-rootca-cert.pem"}, "id:00001014 (IBM (software TPM))", 3, ""})
	}
	if len(out) < 8 {
		t.Fatalf("%d certificates", len(out))
	}
	return out
}

// TestCorpusLeaves: real EK certificates lead to their roots, and to no others.
func TestCorpusLeaves(t *testing.T) {
	dir := corpus(t)
	for _, l := range corpusLeaves(t) {
		var roots []string
		for _, r := range l.roots {
			roots = append(roots, filepath.Join(dir, r))
		}
		a, err := Open(Bundle(l.bundle), roots...)
		must(t, err)
		der := readDER(t, filepath.Join(dir, l.file))
		v := a.Examine([][]byte{der}, nil, at)
		if !v.OK() || len(v.Path) != l.path {
			t.Errorf("%s: %v, path of %d", l.file, v.Err(), len(v.Path))
			continue
		}
		if got := v.Leaf.TPM; got.Named != (l.maker != "") || got.Named && (got.Manufacturer.String() != l.maker || !got.Readable || got.Model == "") {
			t.Errorf("%s: TPM %+v", l.file, got)
		}
		if v := a.Examine([][]byte{der}, nil, v.Leaf.NotBefore.Add(-time.Second)); v.OK() || v.Findings[0].Code != CodeNotYet {
			t.Errorf("%s a second before: %v", l.file, v.Err())
		}
		other := map[string]Bundle{"shipped": BundleNone, "none": BundleShipped}[l.bundle]
		b, err := Open(other)
		must(t, err)
		if v := b.Examine([][]byte{der}, nil, at); v.OK() || v.Findings[0].Code != CodeChain {
			t.Errorf("%s below other roots: %v", l.file, v.Err())
		}
	}
	// What swtpm keeps beside them is a platform certificate.
	if others, _ := filepath.Glob(filepath.Join(dir, "vm", "*", "nv_1c08000.der")); len(others) > 0 {
		a, err := Open(BundleNone, filepath.Join(dir, "vm", "issuercert.pem"), filepath.Join(dir, "vm", "swtpm-localca-rootca-cert.pem"))
		must(t, err)
		if v := a.Examine([][]byte{readDER(t, others[0])}, nil, at); v.OK() || !slices.Contains(findings(v), CodeEKU) {
			t.Errorf("platform certificate: %v", v.Err())
		}
	}
}

// TestGoAttestation holds parsing and profile against another opinion.
func TestGoAttestation(t *testing.T) {
	dir := corpus(t)
	opinion := func(der []byte) (*x509ext.EKCertificate, error) {
		c, err := attest.ParseEKCertificate(der)
		if err != nil {
			return nil, err
		}
		return x509ext.ToEKCertificate(c)
	}
	for _, l := range corpusLeaves(t) {
		der := readDER(t, filepath.Join(dir, l.file))
		c, err := ParseCertificate(der)
		must(t, err)
		theirs, err := opinion(der)
		if (err == nil) != (l.google == "") || err != nil && !strings.Contains(strings.ReplaceAll(err.Error(), " ", ""), strings.ReplaceAll(l.google, " ", "")) {
			t.Errorf("%s: go-attestation says %v, on record is %q", l.file, err, l.google)
		}
		if err == nil && (theirs.TpmManufacturer != c.TPM.Manufacturer.ID() || theirs.TpmModel != c.TPM.Model || theirs.TpmVersion != c.TPM.Version) {
			t.Errorf("%s: %s %s %s, here %+v", l.file, theirs.TpmManufacturer, theirs.TpmModel, theirs.TpmVersion, c.TPM)
		}
	}
	// Made up: one fault each. Where we differ, it is on record why.
	m, key := newMaker(t), newChip(t, 0).ek.Public()
	for name, x := range map[string]struct {
		change      func(*x509.Certificate)
		ours, their bool
	}{
		"good":                  {nil, true, true},
		"an authority's":        {func(x *x509.Certificate) { x.IsCA = true }, false, false},
		"name not critical":     {func(x *x509.Certificate) { x.ExtraExtensions[0].Critical = false }, false, false},
		"for signing":           {func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageDigitalSignature }, false, false},
		"no key usage":          {func(x *x509.Certificate) { x.KeyUsage = 0 }, true, false},                                     // early TPMs; we look at what is there
		"RSA key for agreement": {func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageKeyAgreement }, true, false},             // either says that it opens secrets
		"no basic constraints":  {func(x *x509.Certificate) { x.BasicConstraintsValid = false }, true, false},                    // absent means no authority
		"of another purpose":    {func(x *x509.Certificate) { x.UnknownExtKeyUsage[0] = oidAIKCertificate }, false, true},        // they report it, we refuse
		"unknown and critical":  {func(x *x509.Certificate) { x.ExtraExtensions = append(x.ExtraExtensions, odd) }, false, true}, // left to Verify there
	} {
		der := m.certificate(t, key, x.change)
		_, err := opinion(der)
		if v := trusting(t, m).Examine([][]byte{der}, nil, now); v.OK() != x.ours || (err == nil) != x.their {
			t.Errorf("%s: here %v, go-attestation %v", name, v.Err(), err)
		}
	}
	padded := append(m.certificate(t, key, nil), 0xff, 0xff)
	if _, err := opinion(padded); err != nil {
		t.Errorf("padding: %v", err)
	}
}

// TestOpenSSL holds paths against another opinion.
func TestOpenSSL(t *testing.T) {
	dir := corpus(t)
	tool, err := exec.LookPath("openssl")
	require.Need(t, "openssl", err)
	for _, l := range corpusLeaves(t) {
		var roots []string
		for _, r := range l.roots {
			roots = append(roots, filepath.Join(dir, r))
		}
		a, err := Open(Bundle(l.bundle), roots...)
		must(t, err)
		all := filepath.Join(t.TempDir(), "all.pem")
		leaf := filepath.Join(t.TempDir(), "leaf.pem")
		var text bytes.Buffer
		for _, one := range a.All() {
			must(t, pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: one.Certificate.Raw}))
		}
		must(t, os.WriteFile(all, text.Bytes(), 0o600))
		writePEM(t, leaf, parse(t, readDER(t, filepath.Join(dir, l.file))))
		for _, when := range []time.Time{at, at.AddDate(-20, 0, 0)} {
			out, err := exec.Command(tool, "verify", "-attime", fmt.Sprint(when.Unix()), "-CAfile", all, leaf).CombinedOutput()
			if v := a.Examine([][]byte{readDER(t, leaf)}, nil, when); v.OK() != (err == nil) {
				t.Errorf("%s at %v: here %v, openssl %s", l.file, when, v.Err(), out)
			}
		}
	}
}
