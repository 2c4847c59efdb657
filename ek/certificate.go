// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits of a chain as a host sends it.
const (
	MaxChain       = 8
	MaxCertificate = 8 << 10
)

var (
	oidEKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	oidSAN           = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidRSAOAEP       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
)

// CheckCertificate reports whether chain, leaf first, proves at the time now
// that ek is in a TPM of one of the authorities. What comes after the leaf are
// hints: only what leads to a configured root counts.
func (a *Authorities) CheckCertificate(ek *EK, chain [][]byte, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("no EK certificate")
	}
	if len(chain) > MaxChain {
		return fmt.Errorf("%d certificates, at most %d", len(chain), MaxChain)
	}
	if a.count == 0 {
		return errors.New("the broker has no EK authorities")
	}
	leaf, err := parseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("EK certificate: %v", err)
	}
	if err := checkLeaf(leaf); err != nil {
		return fmt.Errorf("EK certificate: %v", err)
	}
	spki, err := leafKey(leaf)
	if err != nil {
		return fmt.Errorf("EK certificate: %v", err)
	}
	if !bytes.Equal(spki, ek.SPKI) {
		return errors.New("EK certificate is for another key than ek_public")
	}
	hints := a.intermediates.Clone()
	for i, der := range chain[1:] {
		cert, err := parseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate %d of the chain: %v", i+1, err)
		}
		hints.AddCert(cert)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: a.roots, Intermediates: hints, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("EK certificate: %v", err)
	}
	return nil
}

// parseCertificate takes a certificate as TPMs keep it: perhaps in the TCG's
// wrapper for NV memory, perhaps followed by the unwritten rest of the index.
func parseCertificate(raw []byte) (*x509.Certificate, error) {
	if len(raw) > MaxCertificate {
		return nil, fmt.Errorf("%d bytes, at most %d", len(raw), MaxCertificate)
	}
	// TCG PC Client Specific Implementation Specification for Conventional
	// BIOS, section 7.4.6: tag 1001, kind 00 (a full certificate), size.
	if len(raw) > 5 && bytes.Equal(raw[:3], []byte{0x10, 0x01, 0x00}) {
		size := int(binary.BigEndian.Uint16(raw[3:]))
		if size > len(raw)-5 {
			return nil, errors.New("NV wrapper says more bytes than there are")
		}
		raw = raw[5 : 5+size]
		if len(raw) > 2 && bytes.Equal(raw[:2], []byte{0x10, 0x02}) {
			raw = raw[2:]
		}
	}
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(raw, &outer)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 && len(bytes.Trim(rest, "\x00")) > 0 && len(bytes.Trim(rest, "\xff")) > 0 {
		return nil, fmt.Errorf("%d bytes behind the end that are no padding", len(rest))
	}
	return x509.ParseCertificate(outer.FullBytes)
}

// checkLeaf wants what the TCG EK Credential Profile wants of the leaf, as far
// as it bears on trust. The subject alternative name is critical there and
// holds a directory name that crypto/x509 does not read; it names the model of
// the TPM and decides nothing here.
func checkLeaf(c *x509.Certificate) error {
	c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions, oidSAN.Equal)
	if c.IsCA {
		return errors.New("it is an authority's")
	}
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCertificate.Equal) {
		return fmt.Errorf("extended key usage is not %v", oidEKCertificate)
	}
	if c.KeyUsage != 0 && c.KeyUsage&(x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) == 0 {
		return errors.New("key usage allows neither encipherment nor agreement")
	}
	return nil
}

// leafKey returns the key of c in the form of [EK.SPKI]. Early TPMs carry RSA
// keys under the OID of OAEP, which crypto/x509 leaves unparsed.
func leafKey(c *x509.Certificate) ([]byte, error) {
	if c.PublicKey != nil {
		return x509.MarshalPKIXPublicKey(c.PublicKey)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil || len(rest) > 0 {
		return nil, errors.New("malformed public key")
	}
	if !info.Algorithm.Algorithm.Equal(oidRSAOAEP) {
		return nil, fmt.Errorf("public key of type %v", info.Algorithm.Algorithm)
	}
	key, err := x509.ParsePKCS1PublicKey(info.Key.RightAlign())
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey((*rsa.PublicKey)(key))
}
