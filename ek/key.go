// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// checkKey wants of the key of a leaf what it would of the key in a TPM.
func checkKey(key any, place string) *Error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return checkRSA(k, place)
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fault(CodeKey, place, "key on curve %s, want P-256 or P-384", k.Curve.Params().Name)
		}
		return nil
	}
	return fault(CodeKey, place, "key of type %T, want RSA or ECC", key)
}

func checkRSA(k *rsa.PublicKey, place string) *Error {
	switch bits := k.N.BitLen(); {
	case bits < 2048 || bits > 4096:
		return fault(CodeKey, place, "RSA modulus of %d bits, want 2048 to 4096", bits)
	case k.E != 65537:
		return fault(CodeKey, place, "RSA exponent %d, want 65537", k.E)
	case k.N.Bit(0) == 0:
		return fault(CodeKey, place, "RSA modulus is even")
	case hasROCA(k.N):
		return fault(CodeROCA, place, "RSA modulus is of the faulty generator, CVE-2017-15361: whoever knows it can compute the private key")
	}
	return nil
}

// HasROCA reports whether an RSA key looks like one of the faulty Infineon
// generator (CVE-2017-15361). A sound key does with a probability below 2^-27.
func (c *Certificate) HasROCA() bool {
	k, ok := c.key.(*rsa.PublicKey)
	return ok && k.N.Bit(0) == 1 && hasROCA(k.N)
}

// KeyKind returns the kind of the key for people, such as "RSA 2048".
func (c *Certificate) KeyKind() string {
	switch k := c.key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECC " + k.Curve.Params().Name
	}
	return fmt.Sprintf("%T", c.key)
}

// checkSigner bounds the keys of authorities: too short is no signature, too
// long is work for whoever checks it.
func checkSigner(c *x509.Certificate) error {
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && (k.N.BitLen() < 2048 || k.N.BitLen() > 8192) {
		return fmt.Errorf("RSA key of %d bits, want 2048 to 8192", k.N.BitLen())
	}
	return nil
}

// ForSigning reports whether the certificate is for a key that only signs, as
// an attestation key does.
func (c *Certificate) ForSigning() bool {
	return !c.IsCA && c.KeyUsage&forAK.usage != 0 && c.KeyUsage&forAK.not == 0
}
