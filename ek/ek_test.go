// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

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
