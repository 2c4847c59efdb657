// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"testing"

	"github.com/google/go-attestation/attest"
	x509ext "github.com/google/go-attestation/x509"
	"github.com/google/go-tpm/tpm2"

	"github.com/jurat-dev/jurat/internal/softtpm"
)

func eks(t testing.TB, dev *Device) map[string]EK {
	t.Helper()
	list, err := dev.EKs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]EK)
	for i, ek := range list {
		if i > 0 && ek.Certificate != nil && list[i-1].Certificate == nil {
			t.Errorf("%s has a certificate and comes after one that has none", ek.Algorithm)
		}
		m[ek.Algorithm] = ek
	}
	return m
}

// persistent lists the keys that stay in a TPM, and NV indexes.
func persistent(t testing.TB, dev *Device) []tpm2.TPMHandle {
	t.Helper()
	keys, err := dev.handles(t.Context(), 0x81000000, 0x81ffffff)
	if err != nil {
		t.Fatal(err)
	}
	indexes, err := dev.handles(t.Context(), 0x01000000, 0x01ffffff)
	if err != nil {
		t.Fatal(err)
	}
	return append(keys, indexes...)
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s: no PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestEKCertificatesChainToTheirMaker(t *testing.T) {
	chip := startTPM(t, softtpm.Options{})
	dev := open(t, chip.Path())
	before := persistent(t, dev)
	found := eks(t, dev)
	if after := persistent(t, dev); len(after) != len(before) {
		t.Errorf("EKs changed the TPM: %x, was %x", after, before)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(readCertificate(t, chip.RootCA()))
	intermediates.AddCert(readCertificate(t, chip.IssuerCA()))
	for _, algorithm := range []string{"rsa-2048", "ecc-p384"} {
		ek := found[algorithm]
		if ek.CertificateErr != nil {
			t.Fatal(ek.CertificateErr)
		}
		cert, err := x509.ParseCertificate(ek.Certificate)
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		if _, err := x509ext.ToEKCertificate(cert); err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		}); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	if ek := found["ecc-p256"]; ek.Certificate != nil || ek.CertificateErr != nil || len(ek.Public) == 0 {
		t.Errorf("ecc-p256: %+v", ek)
	}
}

func TestEKsOfATPMWithoutCertificates(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	before := persistent(t, dev)
	found := eks(t, dev)
	if after := persistent(t, dev); len(after) != len(before) {
		t.Errorf("EKs changed the TPM: %x, was %x", after, before)
	}
	if len(found) != 2 || found["rsa-2048"].Public == nil || found["ecc-p256"].Public == nil {
		t.Errorf("found %+v", found)
	}
	if again := eks(t, dev); !bytes.Equal(again["ecc-p256"].Public, found["ecc-p256"].Public) ||
		!bytes.Equal(again["rsa-2048"].Public, found["rsa-2048"].Public) {
		t.Error("the keys are others a second time")
	}
}

// writeNV defines an index as a maker would and fills it.
func writeNV(t *testing.T, dev *Device, index tpm2.TPMHandle, data []byte, attributes tpm2.TPMANV) {
	t.Helper()
	attributes.OwnerWrite, attributes.AuthWrite, attributes.NoDA = true, true, true
	public := tpm2.TPMSNVPublic{NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, Attributes: attributes, DataSize: uint16(len(data))}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := run(t.Context(), dev.bus, tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(public)}); err != nil {
		t.Fatal(err)
	}
	for offset := 0; offset < len(data); offset += nvChunk {
		rsp, err := run(t.Context(), dev.bus, tpm2.NVReadPublic{NVIndex: index})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run(t.Context(), dev.bus, tpm2.NVWrite{
			AuthHandle: owner,
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: rsp.NVName},
			Data:       tpm2.TPM2BMaxNVBuffer{Buffer: data[offset:min(offset+nvChunk, len(data))]},
			Offset:     uint16(offset),
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEKNonceIsPutIntoTheTemplate(t *testing.T) {
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	plain := eks(t, dev)
	writeNV(t, dev, 0x01c0000b, []byte{1, 2, 3}, tpm2.TPMANV{OwnerRead: true})
	found := eks(t, dev)
	if bytes.Equal(found["ecc-p256"].Public, plain["ecc-p256"].Public) {
		t.Error("the nonce made no difference")
	}
	if !bytes.Equal(found["rsa-2048"].Public, plain["rsa-2048"].Public) {
		t.Error("the nonce of one key changed the other")
	}
	unique := append([]byte{1, 2, 3}, make([]byte, 29)...)
	template := tpm2.ECCEKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: unique}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}})
	want, err := dev.createPrimary(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(found["ecc-p256"].Public, want.encoded) {
		t.Error("not the key that the nonce makes")
	}
	if point, err := tpm2.ECCEKTemplate.Unique.ECC(); err != nil || !bytes.Equal(point.X.Buffer, make([]byte, 32)) {
		t.Error("the nonce went into the template that all share")
	}
	writeNV(t, dev, 0x01c00003, make([]byte, 257), tpm2.TPMANV{AuthRead: true})
	if _, err := dev.EKs(t.Context()); err == nil {
		t.Error("took a nonce that does not fit")
	}
}

func TestEKCertificateThatIsNotTaken(t *testing.T) {
	other := eks(t, open(t, startTPM(t, softtpm.Options{}).Path()))
	chip := startTPM(t, softtpm.Options{Blank: true})
	dev := open(t, chip.Path())
	writeNV(t, dev, 0x01c00002, other["rsa-2048"].Certificate, tpm2.TPMANV{AuthRead: true})
	writeNV(t, dev, 0x01c0000a, []byte("no certificate"), tpm2.TPMANV{AuthRead: true})
	for algorithm, ek := range eks(t, dev) {
		if ek.Certificate != nil || ek.CertificateErr == nil || ek.Public == nil {
			t.Errorf("%s: %+v", algorithm, ek)
		}
	}
	if _, err := dev.readNV(t.Context(), 0x01c00004); err == nil {
		t.Error("read an index that is not there")
	}
	writeNV(t, dev, 0x01c00004, []byte{1}, tpm2.TPMANV{PPRead: true})
	if _, err := dev.readNV(t.Context(), 0x01c00004); err == nil {
		t.Error("read an index that only the platform may read")
	}
}

func TestEKChainFromNV(t *testing.T) {
	from := startTPM(t, softtpm.Options{})
	certs := [][]byte{readCertificate(t, from.IssuerCA()).Raw, readCertificate(t, from.RootCA()).Raw}
	dev := open(t, from.Path())
	all := append(bytes.Join(certs, nil), make([]byte, 100)...) // makers pad with zeros
	writeNV(t, dev, 0x01c00100, all[:700], tpm2.TPMANV{AuthRead: true})
	writeNV(t, dev, 0x01c00101, all[700:], tpm2.TPMANV{AuthRead: true})
	writeNV(t, dev, 0x01c00200, []byte("something else"), tpm2.TPMANV{AuthRead: true})
	found := eks(t, dev)
	for _, algorithm := range []string{"rsa-2048", "ecc-p384"} {
		chain := found[algorithm].Chain
		if len(chain) != 2 || !bytes.Equal(chain[0], certs[0]) || !bytes.Equal(chain[1], certs[1]) {
			t.Errorf("%s: chain of %d certificates", algorithm, len(chain))
		}
	}
	if found["ecc-p256"].Chain != nil {
		t.Error("a key without certificate has a chain")
	}
	if chain := splitCertificates([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}); chain != nil {
		t.Errorf("chain of %d certificates from garbage", len(chain))
	}
	if chain := splitCertificates(bytes.Repeat([]byte{asn1.TagNull, 0}, 10)); chain != nil {
		t.Errorf("chain of %d certificates from nulls", len(chain))
	}
}

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
	if _, err := ak.ActivateCredential(t.Context(), stranger, credential, encrypted); err == nil {
		t.Error("activated for the EK of another TPM")
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
