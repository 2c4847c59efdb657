// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jurat-dev/jurat/evidence"
)

// Limits of a chain as a host sends it.
const (
	MaxChain       = 8
	MaxCertificate = 8 << 10
)

var (
	oidEKCertificate  = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	oidAIKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate
	oidSAN            = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidRSAOAEP        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
)

// Certificate is a certificate as TPMs keep it, well formed and not believed.
//
// TPM makers' certificates differ from what crypto/x509 takes in four ways, and
// in these only they are let through; [Certificate.Notes] says which were met.
// What crypto/x509 refuses otherwise, a negative serial number for example, is
// malformed here too.
//
//   - The TCG's wrapper for NV memory stands before it.
//   - The rest of an NV index, all zeros or all ones, stands behind it. Neither
//     is signed, and neither is read.
//   - An RSA key stands under the OID of OAEP (early TPMs). The key is the same.
//   - The subject alternative name is critical and a directory name. It is read
//     here instead; no other critical extension is let through.
type Certificate struct {
	*x509.Certificate
	SPKI  []byte        // DER of its SubjectPublicKeyInfo, computed here
	Pin   evidence.Hash // SHA-256 of SPKI
	TPM   TPM           // what the subject alternative name says
	Notes []string

	key         any    // *rsa.PublicKey, *ecdsa.PublicKey, …
	san         *Error // why TPM could not be read
	sanCritical bool
}

// ParseCertificate reads one certificate in DER. The error is an [*Error].
func ParseCertificate(raw []byte) (*Certificate, error) {
	c, err := parseCertificate(raw, "certificate")
	if err != nil {
		return nil, err
	}
	return c, nil
}

func parseCertificate(raw []byte, place string) (*Certificate, *Error) {
	if len(raw) > MaxCertificate {
		return nil, fault(CodeTooLarge, place, "%d bytes, at most %d", len(raw), MaxCertificate)
	}
	der, notes, err := unwrap(raw)
	if err != nil {
		return nil, fault(CodeMalformed, place, "%v", err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault(CodeMalformed, place, "%v", err)
	}
	c := &Certificate{Certificate: parsed, Notes: notes}
	if err := c.readKey(); err != nil {
		return nil, fault(CodeMalformed, place, "public key: %v", err)
	}
	c.readSAN(place)
	return c, nil
}

// unwrap takes away what a TPM's NV memory puts around a certificate.
func unwrap(raw []byte) (der []byte, notes []string, err error) {
	// TCG PC Client Specific Implementation Specification for Conventional
	// BIOS, section 7.4.6: tag 1001, kind 00 (a full certificate), size.
	if len(raw) > 5 && bytes.Equal(raw[:3], []byte{0x10, 0x01, 0x00}) {
		size := int(binary.BigEndian.Uint16(raw[3:]))
		if size > len(raw)-5 {
			return nil, nil, errors.New("NV wrapper says more bytes than there are")
		}
		raw = raw[5 : 5+size]
		if len(raw) > 2 && bytes.Equal(raw[:2], []byte{0x10, 0x02}) {
			raw = raw[2:]
		}
		notes = append(notes, "taken out of the TCG's NV wrapper")
	}
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(raw, &outer)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) > 0 {
		if len(bytes.Trim(rest, "\x00")) > 0 && len(bytes.Trim(rest, "\xff")) > 0 {
			return nil, nil, fmt.Errorf("%d bytes behind the end that are no padding", len(rest))
		}
		notes = append(notes, fmt.Sprintf("%d bytes of NV padding behind it", len(rest)))
	}
	return outer.FullBytes, notes, nil
}

// readKey fills in the key, in the form of [EK.SPKI].
func (c *Certificate) readKey() error {
	c.key = c.PublicKey
	if c.key == nil {
		var info struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		if rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil || len(rest) > 0 {
			return errors.New("not a SubjectPublicKeyInfo")
		}
		if !info.Algorithm.Algorithm.Equal(oidRSAOAEP) {
			return fmt.Errorf("of type %v", info.Algorithm.Algorithm)
		}
		key, err := x509.ParsePKCS1PublicKey(info.Key.RightAlign())
		if err != nil {
			return err
		}
		c.key = key
		c.Notes = append(c.Notes, "RSA key under the OID of OAEP")
	}
	spki, err := x509.MarshalPKIXPublicKey(c.key)
	c.SPKI, c.Pin = spki, sha256.Sum256(spki)
	return err
}

func (c *Certificate) readSAN(place string) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		var err error
		if c.TPM, err = parseSAN(e.Value); err != nil {
			c.san = fault(CodeSAN, place, "subject alternative name: %v", err)
		}
		c.sanCritical = e.Critical
	}
}

// purpose is what the certificate of a key in a TPM is for.
type purpose struct {
	place    string
	usage    x509.KeyUsage // one of these must be allowed
	not      x509.KeyUsage // and none of these
	usageMsg string
	ekus     []asn1.ObjectIdentifier // where there are any, one of these
	ak       bool
}

var (
	forEK = purpose{
		place: "EK certificate", usage: x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		usageMsg: "neither encipherment nor agreement", ekus: []asn1.ObjectIdentifier{oidEKCertificate},
	}
	// Google's first authority marks attestation keys as EKs; what keeps the
	// two apart is what the key may do.
	forAK = purpose{
		place: "AK certificate", usage: x509.KeyUsageDigitalSignature, not: x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		usageMsg: "not signing alone", ekus: []asn1.ObjectIdentifier{oidAIKCertificate, oidEKCertificate}, ak: true,
	}
)

// checkProfile wants what the TCG EK Credential Profile (section 3.2) wants of
// the leaf, as far as it bears on trust.
func (c *Certificate) checkProfile(p *purpose) (found []*Error) {
	bad := func(code Code, format string, args ...any) {
		found = append(found, fault(code, p.place, format, args...))
	}
	if c.Version != 3 {
		bad(CodeProfile, "version %d, want 3", c.Version)
	}
	for _, oid := range c.UnhandledCriticalExtensions {
		if !oid.Equal(oidSAN) {
			bad(CodeProfile, "unknown critical extension %v", oid)
		}
	}
	if c.KeyUsage != 0 && c.KeyUsage&p.usage == 0 || c.KeyUsage&p.not != 0 || p.ak && c.KeyUsage == 0 {
		bad(CodeUsage, "key usage allows %s", p.usageMsg)
	}
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(p.ekus, func(want asn1.ObjectIdentifier) bool {
		return slices.ContainsFunc(c.UnknownExtKeyUsage, want.Equal)
	}) {
		bad(CodeEKU, "extended key usage is not %v", p.ekus[0])
	}
	switch {
	case c.san != nil:
		found = append(found, c.san)
	case len(c.Subject.Names) == 0 && !c.sanCritical:
		bad(CodeSAN, "neither a subject nor a critical subject alternative name")
	}
	return found
}
