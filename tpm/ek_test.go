// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package tpm

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"io"
	"os"
	"strings"
	"testing"

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
	if _, err := dev.readNV(t.Context(), 0x01c00004); err == nil || !strings.Contains(err.Error(), "neither its own") {
		t.Errorf("read an index that only the platform may read: %v", err)
	}
}

// bodyLink answers the n-th command with the n-th body.
type bodyLink struct{ bodies [][]byte }

func (l *bodyLink) exchange(command []byte) ([]byte, error) {
	if len(l.bodies) == 0 {
		return nil, io.EOF
	}
	body := l.bodies[0]
	l.bodies = l.bodies[1:]
	if tpm2.TPMST(binary.BigEndian.Uint16(command)) == tpm2.TPMSTNoSessions {
		return answer(tpm2.TPMSTNoSessions, tpm2.TPMRCSuccess, body...), nil
	}
	sized := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	body = append(append(sized, body...), 0, 0, 1, 0, 0) // the answer to an empty password
	return answer(tpm2.TPMSTSessions, tpm2.TPMRCSuccess, body...), nil
}

func (l *bodyLink) Close() error { return nil }

func TestReadNVRefuses(t *testing.T) {
	public := func(index tpm2.TPMHandle, size uint16) []byte {
		area := tpm2.TPMSNVPublic{NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, Attributes: tpm2.TPMANV{AuthRead: true}, DataSize: size}
		return append(tpm2.Marshal(tpm2.New2B(area)), 0, 0)
	}
	data := func(n int) []byte { return tpm2.Marshal(tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, n)}) }
	for says, bodies := range map[string][][]byte{
		"":                      {public(1, 10), data(6), data(4)},
		"about 0x2":             {public(2, 10), data(10)},
		"with 9000 bytes":       {public(1, 9000)},
		"gave 11 bytes at 0":    {public(1, 10), data(11)},
		"gave 5 bytes at 6":     {public(1, 10), data(6), data(5)},
		"gave 0 bytes at 6":     {public(1, 10), data(6), data(0)},
		"had no contents":       {{}},
		"TPM is gone":           {public(1, 10), data(6)},
		"unmarshalling field 1": {{0, 1, 0, 0, 0}},
	} {
		dev, _ := scripted(&bodyLink{bodies})
		got, err := dev.readNV(t.Context(), 1)
		if says == "" {
			if err != nil || len(got) != 10 {
				t.Errorf("read %x, %v", got, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error is %v, want it to say %q", err, says)
		}
	}
}

func TestEKChainFromNV(t *testing.T) {
	from := startTPM(t, softtpm.Options{})
	certs := [][]byte{readCertificate(t, from.IssuerCA()).Raw, readCertificate(t, from.RootCA()).Raw}
	dev := open(t, from.Path())
	all := bytes.Join(certs, nil)
	writeNV(t, dev, 0x01c00100, all[:700], tpm2.TPMANV{AuthRead: true})
	writeNV(t, dev, 0x01c00101, all[700:], tpm2.TPMANV{AuthRead: true})
	writeNV(t, dev, 0x01c00200, certs[0], tpm2.TPMANV{AuthRead: true}) // no part of the chain
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
	if chain := splitCertificates(append(all, make([]byte, 100)...)); len(chain) != 2 { // makers pad with zeros
		t.Errorf("chain of %d certificates in front of zeros", len(chain))
	}
	if chain := splitCertificates([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}); chain != nil {
		t.Errorf("chain of %d certificates from garbage", len(chain))
	}
	if chain := splitCertificates(bytes.Repeat([]byte{asn1.TagNull, 0}, 10)); chain != nil {
		t.Errorf("chain of %d certificates from nulls", len(chain))
	}
}
