// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/internal/softtpm"
)

// challenge is what a broker sends: a secret for the AK of this name, encrypted to ek.
func challenge(t testing.TB, ek EK, name []byte) (secret, credential, encrypted []byte) {
	t.Helper()
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](ek.Public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.ImportEncapsulationKey(public)
	if err != nil {
		t.Fatal(err)
	}
	secret = make([]byte, 32)
	rand.Read(secret)
	credential, encrypted, err = tpm2.CreateCredential(rand.Reader, key, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	return secret, credential, encrypted
}

func TestActivateCredential(t *testing.T) {
	chip := startTPM(t, softtpm.Options{})
	dev, err := Open(chip.RawPath())
	if err != nil {
		t.Fatal(err)
	}
	ak := createAK(t, dev, "1")
	other := createAK(t, dev, "2")
	if err := dev.release(other.key); err != nil {
		t.Fatal(err)
	}
	found := eks(t, dev)
	if len(found) != 3 {
		t.Fatalf("%d EKs", len(found))
	}
	for algorithm, ek := range found {
		t.Run(algorithm, func(t *testing.T) {
			secret, credential, encrypted := challenge(t, ek, ak.Name())
			opened, err := ak.ActivateCredential(t.Context(), ek, credential, encrypted)
			if err != nil || subtle.ConstantTimeCompare(opened, secret) != 1 {
				t.Fatalf("opened %x, want %x: %v", opened, secret, err)
			}
			for name, c := range map[string][2][]byte{
				"credential changed":   {flip(credential, len(credential)-1), encrypted},
				"secret changed":       {credential, flip(encrypted, len(encrypted)-1)},
				"credential truncated": {credential[:len(credential)-1], encrypted},
				"nothing":              {nil, nil},
				"too long":             {make([]byte, 70000), make([]byte, 70000)},
			} {
				if opened, err := ak.ActivateCredential(t.Context(), ek, c[0], c[1]); !errors.Is(err, ErrActivation) || opened != nil {
					t.Errorf("%s: opened %x, %v", name, opened, err)
				}
			}
			_, credential, encrypted = challenge(t, ek, other.Name())
			if opened, err := ak.ActivateCredential(t.Context(), ek, credential, encrypted); !errors.Is(err, ErrActivation) || opened != nil {
				t.Errorf("made for another name: opened %x, %v", opened, err)
			}
		})
	}
	stranger := eks(t, open(t, startTPM(t, softtpm.Options{Blank: true}).Path()))["ecc-p256"]
	_, credential, encrypted := challenge(t, stranger, ak.Name())
	if _, err := ak.ActivateCredential(t.Context(), stranger, credential, encrypted); err == nil || !strings.Contains(err.Error(), "is another one") {
		t.Errorf("activated for the EK of another TPM: %v", err)
	}
	stranger.Public = found["ecc-p256"].Public
	if _, err := ak.ActivateCredential(t.Context(), stranger, credential, encrypted); !errors.Is(err, ErrActivation) {
		t.Errorf("made for another TPM: %v", err)
	}
	if _, err := ak.ActivateCredential(t.Context(), EK{Algorithm: "rsa-512"}, nil, nil); err == nil {
		t.Error("activated for an EK of unknown kind")
	}
	if len(dev.keys.loaded) != 1 {
		t.Errorf("still loaded: %x, want only the AK", dev.keys.loaded)
	}
	if _, _, err := dev.endorsementSession(t.Context()); err != nil { // what an interrupted activation leaves
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	if left := transient(t, chip.RawPath()); len(left) != 0 {
		t.Errorf("left loaded: %x", left)
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

// The same AK can be enrolled with a broker that uses go-attestation.
func TestActivateCredentialOfGoAttestation(t *testing.T) {
	chip := startTPM(t, softtpm.Options{})
	dev := open(t, chip.Path())
	ak := createAK(t, dev, "1")
	creation, err := ak.CertifyCreation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, ek := range eks(t, dev) {
		if algorithm == "ecc-p384" {
			continue // go-attestation knows 128-bit EKs only
		}
		public, err := tpm2.Unmarshal[tpm2.TPMTPublic](ek.Public)
		if err != nil {
			t.Fatal(err)
		}
		key, err := tpm2.Pub(*public)
		if err != nil {
			t.Fatal(err)
		}
		parameters := attest.ActivationParameters{EK: key, AK: attest.AttestationParameters{
			Public: ak.Public(), CreateData: creation.Data, CreateAttestation: creation.Attest, CreateSignature: creation.Signature,
		}}
		secret, challenge, err := parameters.Generate()
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		// go-attestation sends TPM2B structures: a size in front of each.
		opened, err := ak.ActivateCredential(t.Context(), ek, challenge.Credential[2:], challenge.Secret[2:])
		if err != nil || !bytes.Equal(opened, secret) {
			t.Errorf("%s: opened %x, want %x: %v", algorithm, opened, secret, err)
		}
	}
}
