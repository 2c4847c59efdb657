// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// odd is an extension that nobody knows.
var odd = pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}

// FuzzParseCertificate: whatever is taken is one certificate with a key, is
// taken again without its wrapping, and can be examined and shown.
func FuzzParseCertificate(f *testing.F) {
	for _, name := range []string{"testdata/ek-rsa2048.der", "testdata/ek-secp384r1.der"} {
		der, err := os.ReadFile(name)
		must(f, err)
		f.Add(der)
		f.Add(append(bytes.Clone(der), 0xff, 0xff))
		f.Add(append([]byte{0x10, 1, 0, byte(len(der) >> 8), byte(len(der))}, der...))
		f.Add(append([]byte{0x10, 1, 0, byte((len(der) + 2) >> 8), byte(len(der) + 2), 0x10, 2}, der...))
	}
	text, err := os.ReadFile("testdata/issuer.pem")
	must(f, err)
	block, _ := pem.Decode(text)
	f.Add(block.Bytes)
	a, err := Open(BundleNone, "testdata/root.pem", "testdata/issuer.pem")
	must(f, err)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseCertificate(raw)
		v := a.Examine([][]byte{raw, block.Bytes}, nil, now)
		for _, e := range v.Findings {
			if !utf8.ValidString(e.Text) || bytes.ContainsFunc([]byte(e.Text), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q cannot be printed", e.Text)
			}
		}
		if err != nil {
			if v.OK() {
				t.Error("malformed and believed")
			}
			return
		}
		if len(c.SPKI) == 0 || c.KeyKind() == "" {
			t.Error("no key")
		}
		again, err := ParseCertificate(c.Raw)
		if err != nil || again.Pin != c.Pin || again.TPM != c.TPM {
			t.Errorf("%v, another certificate without its wrapping", err)
		}
	})
}

func FuzzParseSAN(f *testing.F) {
	for _, e := range []pkix.Extension{san(f, true, "id:49465800", "SLB9670", "id:073E"), san(f, true, "", "m", ""), san(f, true, "STM", "", "")} {
		f.Add(e.Value)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		tpm, err := parseSAN(der)
		if err != nil && tpm.Named || len(tpm.Model) > maxAttribute || len(tpm.Version) > maxAttribute {
			t.Errorf("%+v, %v", tpm, err)
		}
	})
}

// TestSANRefused: a name that could be read in two ways is not read.
func TestSANRefused(t *testing.T) {
	good := san(t, true, "id:49465800", "m", "id:073E").Value
	if tpm, err := parseSAN(good); err != nil || !tpm.Named {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"nothing":          nil,
		"no name":          {0x30, 0},
		"something behind": append(bytes.Clone(good), 5, 0),
		"cut":              good[:len(good)-1],
		"long model":       san(t, true, "id:49465800", strings.Repeat("m", maxAttribute+1), "").Value,
	} {
		if tpm, err := parseSAN(der); err == nil {
			t.Errorf("%s: %+v", name, tpm)
		}
	}
}
