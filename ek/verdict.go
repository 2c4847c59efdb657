// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Verdict is what came of looking at a certificate. Its zero value is no yes.
type Verdict struct {
	Leaf     *Certificate // nil when it could not be read
	Path     []Link       // from the leaf to a root, once there is one
	Findings []*Error     // why not, denials first

	whole bool
}

// Link is one certificate of a path.
type Link struct {
	Certificate *x509.Certificate
	Vendor      string // folder of an installed one
	Origin      string // OriginShipped, OriginOperator or OriginHost
}

// OK reports whether the certificate is believed.
func (v *Verdict) OK() bool { return v.whole && len(v.Findings) == 0 && len(v.Path) > 0 }

// Err returns the first finding, or nil when the certificate is believed.
func (v *Verdict) Err() error {
	if v.OK() {
		return nil
	}
	if len(v.Findings) == 0 {
		return fault(CodeChain, "EK certificate", "not examined")
	}
	return v.Findings[0]
}

// Denied returns the denial among the findings, or nil.
func (v *Verdict) Denied() error {
	for _, f := range v.Findings {
		if f.Code == CodeDenied {
			return f
		}
	}
	return nil
}

func (v *Verdict) find(e *Error) {
	if e != nil {
		v.Findings = append(v.Findings, e)
	}
}

// Examine looks at everything about an EK certificate and finds all that
// speaks against it at the time at. The leaf comes first in chain; what comes
// after it are hints: only what leads to an installed root counts. spki is the
// key of the TPM; without one the certificate stands alone.
//
// Each certificate of the path must be valid at that time, roots and
// intermediates too: an authority that has expired no longer answers for
// anybody. A host whose TPM outlived its maker's certificate is enrolled by the
// digest of its EK instead.
func (a *Authorities) Examine(chain [][]byte, spki []byte, at time.Time) *Verdict {
	return a.examine(&forEK, chain, spki, at)
}

// ExamineAK does the same for the certificate with which a cloud provider
// certifies an attestation key. Only authorities below a folder called cloud
// and the providers that ship may do that.
func (a *Authorities) ExamineAK(chain [][]byte, spki []byte, at time.Time) *Verdict {
	return a.examine(&forAK, chain, spki, at)
}

func (a *Authorities) examine(p *purpose, chain [][]byte, spki []byte, at time.Time) *Verdict {
	v := new(Verdict)
	if len(chain) == 0 {
		v.find(fault(CodeNone, p.place, "there is none"))
		return v
	}
	if len(chain) > MaxChain {
		v.find(fault(CodeTooLarge, p.place, "%d certificates, at most %d", len(chain), MaxChain))
		return v
	}
	leaf, err := parseCertificate(chain[0], p.place)
	if err != nil {
		v.find(err)
		return v
	}
	v.Leaf = leaf
	v.find(a.Rules.denyCertificate(leaf.Certificate, leaf.Pin))
	v.find(a.Rules.denyTPM(&leaf.TPM))
	if leaf.IsCA {
		v.find(fault(CodeAuthority, p.place, "it is an authority's (%s)", leaf.Subject))
		v.Path, _, _ = a.path(leaf, nil, p, at) // for people, who ask whose
		return v
	}
	v.Findings = append(v.Findings, leaf.checkProfile(p)...)
	v.find(checkKey(leaf.key, p.place))
	if spki != nil && !bytes.Equal(spki, leaf.SPKI) {
		v.find(fault(CodeMismatch, p.place, "it is for another key than the TPM's"))
	}
	a.examinePath(v, p, chain[1:], at)
	v.whole = true
	return v
}

// examinePath finds the way from the leaf to a root, and holds the leaf against
// what may be named there.
func (a *Authorities) examinePath(v *Verdict, p *purpose, rest [][]byte, at time.Time) {
	hints := make([]*Certificate, 0, len(rest))
	for i, der := range rest {
		c, err := parseCertificate(der, fmt.Sprintf("certificate %d of the chain", i+1))
		if err == nil {
			if e := checkSigner(c.Certificate); e != nil {
				err = fault(CodeKey, fmt.Sprintf("certificate %d of the chain", i+1), "%v", e)
			}
		}
		if err != nil {
			v.find(err)
			return
		}
		hints = append(hints, c)
	}
	path, end, err := a.path(v.Leaf, hints, p, at)
	if err != nil {
		if err.Code == CodeDenied {
			v.Findings = append([]*Error{err}, v.Findings...)
		} else {
			v.find(err)
		}
		return
	}
	v.Path = path
	switch {
	case v.Leaf.TPM.Named:
		v.find(a.Rules.allow(v.Leaf.TPM.Manufacturer, end))
	case !end.Cloud && !slices.ContainsFunc(v.Findings, func(f *Error) bool { return f.Code == CodeSAN }):
		v.find(fault(CodeSAN, p.place, "subject alternative name does not say who made the TPM"))
	case len(a.Rules.allowed) > 0:
		v.find(fault(CodeManufacturer, p.place, "it does not say who made the TPM, and only some makers are allowed"))
	}
}

// path returns the first path that nothing speaks against, from the leaf to a
// root, and the authority where it enters what is installed for good.
func (a *Authorities) path(leaf *Certificate, hints []*Certificate, p *purpose, at time.Time) ([]Link, *Authority, *Error) {
	if a.roots == 0 {
		return nil, nil, fault(CodeChain, p.place, "no authority of TPMs is installed")
	}
	if err := checkTime(leaf.Certificate, p.place, at); err != nil {
		return nil, nil, err
	}
	ends, pool := a.ends, a.intermediates
	if p.ak {
		ends = a.akEnds
	}
	if len(hints) > 0 {
		pool = pool.Clone()
		for _, h := range hints {
			pool.AddCert(h.Certificate)
		}
	}
	// The subject alternative name is read by parseSAN, and an RSA key under
	// the OID of OAEP by readKey: neither bears on who signed the leaf.
	c := *leaf.Certificate
	c.UnhandledCriticalExtensions = nil
	chains, err := c.Verify(x509.VerifyOptions{Roots: ends, Intermediates: pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, nil, whyNoPath(err, &c, p.place, at)
	}
	var worst *Error
	for _, chain := range chains {
		path, end, err := a.settlePath(chain, p.place, at)
		if err == nil {
			return path, end, nil
		}
		if worst == nil || err.Code == CodeDenied {
			worst = err
		}
	}
	return nil, nil, worst
}

// settlePath shows a chain that ends at an installed authority to its root, and
// holds what is above the leaf against the rules and what Verify has not seen
// against the time.
func (a *Authorities) settlePath(chain []*x509.Certificate, place string, at time.Time) ([]Link, *Authority, *Error) {
	end := a.Find(chain[len(chain)-1])
	if end == nil {
		return nil, nil, fault(CodeChain, place, "path does not end at an installed authority")
	}
	for up := end.parent; up != nil; up = up.parent {
		chain = append(chain, up.Certificate)
	}
	path := make([]Link, 0, len(chain))
	for i, c := range chain {
		link := Link{Certificate: c, Origin: OriginHost}
		if one := a.Find(c); one != nil {
			link.Vendor, link.Origin = one.Vendor, one.Origin
		}
		path = append(path, link)
		if i == 0 {
			continue
		}
		if err := a.Rules.denyCertificate(c, sha256.Sum256(c.RawSubjectPublicKeyInfo)); err != nil {
			return nil, nil, err
		}
		if err := checkTime(c, place, at); err != nil {
			return nil, nil, err
		}
		// i-1 intermediates stand between this authority and the leaf.
		if limited := c.MaxPathLen > 0 || c.MaxPathLenZero; limited && i-1 > c.MaxPathLen {
			return nil, nil, fault(CodeChain, place, "%s allows %d authorities below it, and there are %d", c.Subject, c.MaxPathLen, i-1)
		}
	}
	return path, end, nil
}

func checkTime(c *x509.Certificate, place string, at time.Time) *Error {
	switch {
	case at.Before(c.NotBefore):
		return fault(CodeNotYet, place, "%s is valid from %s", who(c), c.NotBefore.UTC().Format(time.RFC3339))
	case at.After(c.NotAfter):
		return fault(CodeExpired, place, "%s was valid until %s", who(c), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// who names a certificate for people.
func who(c *x509.Certificate) string {
	if !c.IsCA {
		return "it"
	}
	return "its authority " + c.Subject.String()
}

// whyNoPath says in our words why crypto/x509 found no path.
func whyNoPath(err error, leaf *x509.Certificate, place string, at time.Time) *Error {
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		if e := checkTime(invalid.Cert, place, at); e != nil {
			return e
		}
	case errors.As(err, &critical):
		return fault(CodeProfile, place, "an authority of the path has an unknown critical extension")
	case errors.As(err, &unknown):
		return fault(CodeChain, place, "no path to an installed root: %v; issuer %s", err, leaf.Issuer)
	}
	return fault(CodeChain, place, "%v", err)
}

// CheckCertificate reports whether chain, leaf first, proves at the time now
// that ek is in a TPM of one of the authorities. The error is an [*Error].
func (a *Authorities) CheckCertificate(ek *EK, chain [][]byte, now time.Time) error {
	return a.Examine(chain, ek.SPKI, now).Err()
}

// CheckCloudAK reports whether chain, leaf first, proves at the time now that
// the key with the public area akPublic (TPMT_PUBLIC) is in a virtual TPM of a
// cloud provider. It says nothing about whether the host can use the key: see
// [CheckPossession]. Attributes are the verifier's to check.
//
// jurat attests with ECC P-256 keys, so an RSA key that a provider put into the
// machine cannot be enrolled so.
func (a *Authorities) CheckCloudAK(akPublic []byte, chain [][]byte, now time.Time) error {
	key, spki, err := readKey(akPublic, placeAK)
	if err != nil {
		return err
	}
	if k, ok := key.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return fault(CodeAK, placeAK, "jurat attests with ECC P-256 keys only; another key that the provider certified cannot be used")
	}
	return a.ExamineAK(chain, spki, now).Err()
}
