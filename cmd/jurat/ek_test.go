// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package main

import (
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/ek"
)

const ekData = "../../ek/testdata/"

// believing are arguments under which the certificates in ekData are believed.
var believing = []string{"--bundle", "none", "--roots", ekData + "root.pem", "--roots", ekData + "issuer.pem", "--at", "2027-03-01T00:00:00Z"}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ekCheck runs 'jurat ek check' and returns what it says, once for people and
// once as JSON.
func (w *world) ekCheck(args ...string) (code int, text string, out ekCheckJSON) {
	w.t.Helper()
	code, text, errs := w.run(append([]string{"ek", "check"}, args...)...)
	again, body, _ := w.run(append([]string{"ek", "check", "--json"}, args...)...)
	if again != code || errs != "" {
		w.t.Errorf("%v: exit %d, with --json %d, %s", args, code, again, errs)
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || out.Schema != "jurat.ek-check/v1" {
		w.t.Errorf("%v: %v in %s", args, err, body)
	}
	return code, text, out
}

// TestEKRefused: exit code 1, the code in both forms, and the object whole.
func TestEKRefused(t *testing.T) {
	w := newWorld(t)
	cert := ekData + "ek-rsa2048.der"
	other := ekData + "ek-secp384r1.der"
	write(t, w.path("rubbish"), []byte("hello"))
	write(t, w.path("empty.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}))
	write(t, w.path("other.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spkiOf(t, other)}))
	write(t, w.path("ek-rules.txt"), []byte("deny manufacturer id:00001014\n"))
	for name, c := range map[string]struct {
		code ek.Code
		args []string
	}{
		"no root":          {ek.CodeChain, []string{cert, "--bundle", "none", "--at", "2027-03-01T00:00:00Z"}},
		"other roots":      {ek.CodeChain, []string{cert, "--at", "2027-03-01T00:00:00Z"}},
		"rubbish":          {ek.CodeMalformed, append([]string{w.path("rubbish")}, believing...)},
		"no certificate":   {ek.CodeNone, append([]string{w.path("empty.pem")}, believing...)},
		"another key":      {ek.CodeMismatch, append([]string{cert, "--public", w.path("other.pub")}, believing...)},
		"too early":        {ek.CodeNotYet, append([]string{cert}, append(believing[:len(believing):len(believing)], "--at", "2001-01-01T00:00:00Z")...)},
		"an authority's":   {ek.CodeAuthority, append([]string{ekData + "issuer.pem"}, believing...)},
		"a rule denies it": {ek.CodeDenied, append([]string{cert, "--roots", w.dir}, believing...)},
	} {
		code, text, out := w.ekCheck(c.args...)
		if code != exitNo || out.OK || out.Code != string(c.code) || out.Level != "" || !strings.Contains(text, "NOT BELIEVED, "+string(c.code)) {
			t.Errorf("%s: exit %d, %+v\n%s", name, code, out, text)
		}
		if name == "an authority's" && (out.Authority == nil || out.Authority.Role != "intermediate" || len(out.Chain) != 2) {
			t.Errorf("%s: %+v, %+v", name, out.Authority, out.Chain)
		}
	}
}

func spkiOf(t *testing.T, cert string) []byte {
	t.Helper()
	c, err := ek.ParseCertificate(read(t, cert))
	if err != nil {
		t.Fatal(err)
	}
	return c.SPKI
}

// TestEKForms: a certificate and a key in every form that tools write.
func TestEKForms(t *testing.T) {
	w := newWorld(t)
	der := read(t, ekData+"ek-rsa2048.der")
	pemText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	c, err := ek.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	public := tpm2.RSAEKTemplate
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: modulus(t, c.SPKI)})
	tpmt := tpm2.Marshal(public)
	write(t, w.path("ek.tpmt"), tpmt)
	write(t, w.path("ek.tpm2b"), append([]byte{byte(len(tpmt) >> 8), byte(len(tpmt))}, tpmt...))
	write(t, w.path("ek.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: c.SPKI}))
	for name, data := range map[string][]byte{
		"DER":     der,
		"PEM":     pemText,
		"padded":  append(append([]byte{}, der...), make([]byte, 200)...),
		"wrapped": append([]byte{0x10, 1, 0, byte(len(der) >> 8), byte(len(der))}, der...),
		"chain":   append(pemText, read(t, ekData+"issuer.pem")...),
	} {
		w.stdin = string(data)
		if code, text, out := w.ekCheck(append([]string{"-"}, believing...)...); code != exitYes || !out.OK || out.Level != "ek-cert" {
			t.Errorf("%s: exit %d\n%s", name, code, text)
		}
	}
	w.stdin = string(append(pemText, read(t, ekData+"issuer.pem")...))
	if code, text, _ := w.ekCheck("-", "--bundle", "none", "--roots", ekData+"root.pem", "--at", "2027-03-01T00:00:00Z"); code != exitYes {
		t.Errorf("an intermediate behind it: exit %d\n%s", code, text)
	}
	for _, name := range []string{"ek.tpmt", "ek.tpm2b", "ek.pub"} {
		if code, text, _ := w.ekCheck(append([]string{ekData + "ek-rsa2048.der", "--public", w.path(name)}, believing...)...); code != exitYes {
			t.Errorf("%s: exit %d\n%s", name, code, text)
		}
	}
}

// modulus finds the modulus of an RSA key of 2048 bits in its
// SubjectPublicKeyInfo: it stands before the exponent, 65537.
func modulus(t *testing.T, spki []byte) []byte {
	t.Helper()
	end := len(spki) - 5
	if end < 256 {
		t.Fatal("no RSA key")
	}
	return spki[end-256 : end]
}

// TestEKUsage: what cannot be judged at all.
func TestEKUsage(t *testing.T) {
	w := newWorld(t)
	cert := ekData + "ek-rsa2048.der"
	write(t, w.path("rubbish.pub"), []byte("hello"))
	write(t, w.path("long"), make([]byte, maxEKFile+1))
	write(t, w.path("ek-rules.txt"), []byte("deny everything\n"))
	for name, c := range map[string]struct {
		exit int
		code string
		args []string
	}{
		"time":          {exitUsage, "usage", []string{cert, "--at", "tomorrow"}},
		"no such file":  {exitUsage, "usage", []string{w.path("nowhere")}},
		"no such roots": {exitUsage, "usage", []string{cert, "--roots", w.path("nowhere")}},
		"no such chain": {exitUsage, "usage", []string{cert, "--chain", w.path("nowhere")}},
		"rules":         {exitNo, "malformed", []string{cert, "--roots", w.dir}},
		"roots":         {exitNo, "malformed", []string{cert, "--roots", w.path("rubbish.pub")}},
		"key":           {exitNo, "malformed", []string{cert, "--public", w.path("rubbish.pub")}},
		"long":          {exitNo, "malformed", []string{w.path("long")}},
		"two":           {exitUsage, "usage", []string{cert, cert}},
		"none":          {exitUsage, "usage", nil},
	} {
		code, out, _ := w.run(append([]string{"ek", "check", "--json"}, c.args...)...)
		if code != c.exit || !strings.Contains(out, `"code": "`+c.code+`"`) {
			t.Errorf("%s: exit %d, %s", name, code, out)
		}
	}
}

// TestEKShipped: the bundle is there, and what is in it is recognised.
func TestEKShipped(t *testing.T) {
	w := newWorld(t)
	code, out, _ := w.run("ek", "roots")
	for _, want := range []string{"Infineon OPTIGA(TM) RSA Root CA 3", "STM TPM EK Root CA", "EK/AK CA Root", "0 rules of the operator"} {
		if code != exitYes || !strings.Contains(out, want) {
			t.Errorf("exit %d, no %q in\n%s", code, want, out)
		}
	}
	for line := range strings.Lines(out) {
		if len([]rune(line)) > 121 {
			t.Errorf("line of %d characters: %s", len(line), line)
		}
	}
	code, text, check := w.ekCheck("../../ek/vendors/STMicro/stm-tpm-ek-root-ca-f8e37a86.pem")
	if code != exitNo || check.Authority == nil || check.Authority.Vendor != "STMicro" || check.Authority.Origin != "shipped" || len(check.Chain) != 2 {
		t.Errorf("exit %d, %+v\n%s", code, check.Authority, text)
	}
}
