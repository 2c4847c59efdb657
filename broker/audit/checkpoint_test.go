// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/jurat-dev/jurat/evidence"
)

func TestOrigin(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://broker.example": origin, "https://broker.example/": origin, "https://broker.example/tenant": origin + "/tenant", "http://127.0.0.1:8443": "jurat.dev/log/127.0.0.1:8443",
	} {
		if got, err := Origin(issuer); err != nil || got != want {
			t.Errorf("%s: %q %v", issuer, got, err)
		}
	}
	for _, bad := range []string{"", "broker.example", "https://", "https://a+b.example", "https://a b", "https://caf\u00e9.example", "https://a.example/x+y"} {
		if got, err := Origin(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	s := signer(t, origin, 1)
	root := evidence.Hash(sha256.Sum256([]byte("root")))
	text, err := s.Checkpoint(48214, root)
	if err != nil {
		t.Fatal(err)
	}
	if want := vector(t, "checkpoint.txt"); string(text) != want {
		t.Errorf("checkpoint is\n%swant\n%s", text, want)
	}
	v, err := NewVerifier(s.VerifierKey())
	if err != nil || v.Origin() != origin {
		t.Fatal(v, err)
	}
	want := Checkpoint{Origin: origin, Size: 48214, Root: root}
	if c, err := v.Open(text); err != nil || c != want {
		t.Errorf("%+v: %v", c, err)
	}
	// A witness adds its line; the log's word is the same.
	witness := signer(t, "witness.example", 2)
	n, err := note.Open(text, note.VerifierList(v.note))
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(n, noteSigner{witness})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := v.Open(both); err != nil || c != want {
		t.Errorf("with a witness: %+v: %v", c, err)
	}
	if c, err := witness.Open(both); err == nil {
		t.Errorf("the witness speaks for the log: %+v", c)
	}
	for at := range text {
		for _, bit := range []byte{1, 2, 32} {
			bad := bytes.Clone(text)
			bad[at] ^= bit
			if c, err := v.Open(bad); err == nil && c != want {
				t.Errorf("byte %d makes it %+v", at, c)
			}
		}
	}
}

func TestCheckpointRefuses(t *testing.T) {
	s := signer(t, origin, 1)
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	signed := func(by *Signer, text string) []byte {
		b, err := note.Sign(&note.Note{Text: text}, noteSigner{by})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := origin + "\n1\n" + root + "\n"
	if _, err := s.Open(signed(s, good)); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"unsigned":           []byte(good),
		"another key":        signed(signer(t, origin, 2), good),
		"another name":       signed(signer(t, "other.example", 1), good),
		"another log":        signed(s, "other.example\n1\n"+root+"\n"),
		"extension line":     signed(s, good+"extra\n"),
		"two lines":          signed(s, origin+"\n1\n"),
		"one line":           signed(s, origin+"\n"),
		"leading zero":       signed(s, origin+"\n01\n"+root+"\n"),
		"plus sign":          signed(s, origin+"\n+1\n"+root+"\n"),
		"negative":           signed(s, origin+"\n-1\n"+root+"\n"),
		"no number":          signed(s, origin+"\nx\n"+root+"\n"),
		"number above 2^62":  signed(s, origin+"\n4611686018427387904\n"+root+"\n"),
		"short root":         signed(s, origin+"\n1\n"+root[4:]+"\n"),
		"root in base64url":  signed(s, origin+"\n1\n"+strings.Repeat("_", 43)+"=\n"),
		"root with loose":    signed(s, origin+"\n1\n"+root[:42]+"B=\n"),
		"too large":          signed(s, good+strings.Repeat("x\n", MaxCheckpoint)),
		"something after it": append(signed(s, good), "more\n"...),
	} {
		if c, err := s.Open(b); err == nil {
			t.Errorf("%s: opened as %+v", name, c)
		}
	}
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	loose, err := note.NewEd25519VerifierKey("a<b", key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.NewVerifier(loose); err != nil {
		t.Fatalf("the library does not take the name: the test tests nothing: %v", err)
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb", "caf\u00e9"} {
		if _, err := NewSigner(bad, key); err == nil {
			t.Errorf("signer of log %q", bad)
		}
	}
	if _, err := NewSigner(origin, key[:32]); err == nil {
		t.Error("signer with half a key")
	}
	for _, bad := range []string{"", "x", strings.Replace(s.VerifierKey(), "+", "x+", 1), loose} {
		if _, err := NewVerifier(bad); err == nil {
			t.Errorf("verifier with key %q", bad)
		}
	}
}
