// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jurat-dev/jurat/evidence"
)

// Bounds of what an operator installs.
const (
	maxAuthority   = 4 << 20 // bytes in a file of certificates
	maxAuthorities = 4096
)

// cloudFolder is the folder below which authorities certify attestation keys of
// virtual machines too.
const cloudFolder = "cloud"

// Where an authority, or a certificate of a path, comes from.
const (
	OriginShipped  = "shipped"  // with this program
	OriginOperator = "operator" // a folder that the operator named
	OriginHost     = "host"     // sent along with the EK certificate, a hint
)

// Authority is one installed certificate of a maker of TPMs.
type Authority struct {
	Certificate *x509.Certificate
	Fingerprint evidence.Hash // SHA-256 of the DER
	Vendor      string        // the folder it lay in
	Origin      string        // OriginShipped or OriginOperator
	Root        bool          // signed by itself
	Cloud       bool          // certifies attestation keys too

	// parent is the installed authority that signed this one with SHA-1. Paths
	// may end here, and are shown to its root.
	parent *Authority
}

// Authorities are the makers of TPMs that the operator trusts: roots, the
// intermediates on the way to them, and the operator's rules. They do not
// change; to change them is to open them again.
type Authorities struct {
	Rules *Rules

	all           []*Authority
	byFingerprint map[evidence.Hash]*Authority
	ends          *x509.CertPool // where the path of an EK may end
	akEnds        *x509.CertPool // where that of a cloud's AK may
	intermediates *x509.CertPool
	roots         int
}

// Bundle says which of the authorities that ship with jurat to begin with.
type Bundle string

// The bundles.
const (
	BundleNone    Bundle = "none"
	BundleShipped Bundle = "shipped"
)

// Open reads certificates, PEM or DER, from files and from directories with
// everything below them, and adds them to a bundle. In a directory, files that
// hold no certificate are passed over, except one named [RulesFile]; a file
// that is named must hold one. A certificate signed by itself becomes a root,
// any other authority an intermediate.
//
// Certificates below a folder called cloud may certify attestation keys too.
func Open(bundle Bundle, paths ...string) (*Authorities, error) {
	a := newAuthorities()
	switch bundle {
	case BundleNone:
	case BundleShipped:
		if err := a.addShipped(shipped); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("bundle %q, want %s or %s", string(bundle), BundleShipped, BundleNone)
	}
	for _, path := range paths {
		found, err := a.open(path)
		if err != nil {
			return nil, err
		}
		if found == 0 {
			return nil, fmt.Errorf("neither a certificate of an authority nor %s in %s", RulesFile, path)
		}
	}
	a.settle()
	if len(a.all) > 0 && a.roots == 0 {
		return nil, errors.New("EK authorities: intermediates only, no root")
	}
	return a, nil
}

func newAuthorities() *Authorities {
	return &Authorities{
		Rules: new(Rules), byFingerprint: make(map[evidence.Hash]*Authority),
		ends: x509.NewCertPool(), akEnds: x509.NewCertPool(), intermediates: x509.NewCertPool(),
	}
}

// Roots returns how many roots there are.
func (a *Authorities) Roots() int { return a.roots }

// All returns the authorities by origin, vendor and name. They must not be
// changed.
func (a *Authorities) All() []*Authority {
	out := slices.Clone(a.all)
	slices.SortFunc(out, func(x, y *Authority) int {
		return cmp.Or(strings.Compare(y.Origin, x.Origin), strings.Compare(x.Vendor, y.Vendor),
			strings.Compare(x.Certificate.Subject.String(), y.Certificate.Subject.String()), bytes.Compare(x.Fingerprint[:], y.Fingerprint[:]))
	})
	return out
}

// Find returns the installed authority with exactly this certificate, or nil.
func (a *Authorities) Find(c *x509.Certificate) *Authority {
	return a.byFingerprint[sha256.Sum256(c.Raw)]
}

func (a *Authorities) open(path string) (found int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if !info.IsDir() {
		return a.readFile(path, filepath.Dir(path))
	}
	err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		n := 0
		if entry.Name() == RulesFile {
			n, err = a.readRules(name)
		} else if slices.Contains([]string{".pem", ".crt", ".cer", ".der"}, strings.ToLower(filepath.Ext(name))) {
			n, err = a.readFile(name, path)
		}
		found += n
		return err
	})
	return found, err
}

func (a *Authorities) readRules(name string) (int, error) {
	data, err := readBounded(name, maxRules)
	if err != nil {
		return 0, err
	}
	r, err := ParseRules(data)
	if err != nil {
		return 0, fmt.Errorf("%s: %v", name, err)
	}
	a.Rules.add(r)
	return 1, nil
}

// readFile reads the certificates of one file below top.
func (a *Authorities) readFile(name, top string) (int, error) {
	data, err := readBounded(name, maxAuthority)
	if err != nil {
		return 0, err
	}
	folder, err := filepath.Rel(filepath.Dir(filepath.Clean(top)), filepath.Dir(name))
	if err != nil {
		return 0, err
	}
	parts := strings.Split(filepath.ToSlash(folder), "/")
	what := Authority{Vendor: parts[len(parts)-1], Origin: OriginOperator, Cloud: slices.Contains(parts, cloudFolder)}
	n, err := a.add(data, what)
	if err != nil {
		return 0, fmt.Errorf("%s: %v", name, err)
	}
	return n, nil
}

func readBounded(name string, most int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", name, most)
	}
	return os.ReadFile(name)
}

// add takes in one file's worth of certificates. One that is there already
// stays what it was.
func (a *Authorities) add(data []byte, what Authority) (int, error) {
	var ders [][]byte
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				ders = append(ders, block.Bytes)
			}
		}
	} else {
		ders = append(ders, data)
	}
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return 0, fmt.Errorf("certificate %d: %v", i, err)
		}
		if !cert.BasicConstraintsValid || !cert.IsCA {
			return 0, fmt.Errorf("certificate %d (%s) is not an authority's", i, clean(cert.Subject.String()))
		}
		if err := checkSigner(cert); err != nil {
			return 0, fmt.Errorf("certificate %d (%s): %v", i, clean(cert.Subject.String()), err)
		}
		one := what
		one.Certificate, one.Fingerprint = cert, sha256.Sum256(der)
		if known := a.byFingerprint[one.Fingerprint]; known != nil {
			known.Cloud = known.Cloud || one.Cloud
			continue
		}
		if len(a.all) == maxAuthorities {
			return 0, fmt.Errorf("more than %d authorities", maxAuthorities)
		}
		one.Root = bytes.Equal(cert.RawSubject, cert.RawIssuer) && signedBy(cert, cert)
		a.all = append(a.all, &one)
		a.byFingerprint[one.Fingerprint] = &one
	}
	return len(ders), nil
}

// settle decides, when all are there, where paths may end: at roots, and at
// authorities that an installed root signed with SHA-1. crypto/x509 takes no
// such signature, and in a path that a host sends it must not; but here both
// sides were installed, the operator's or ours, by their whole content, and
// whoever could put a forged one there could put a root there as well. It is
// how Infineon signed its intermediates for the first TPMs 2.0.
func (a *Authorities) settle() {
	bySubject := make(map[string][]*Authority)
	settled := make(map[*Authority]bool)
	for _, one := range a.all {
		if one.Root {
			settled[one] = true
			a.roots++
			bySubject[string(one.Certificate.RawSubject)] = append(bySubject[string(one.Certificate.RawSubject)], one)
		}
	}
	const deepest = 3 // intermediates one below the other
	for range deepest {
		for _, one := range a.all {
			c := one.Certificate
			if settled[one] || c.SignatureAlgorithm != x509.SHA1WithRSA {
				continue
			}
			for _, parent := range bySubject[string(c.RawIssuer)] {
				if signedBy(c, parent.Certificate) {
					settled[one], one.parent = true, parent
					bySubject[string(c.RawSubject)] = append(bySubject[string(c.RawSubject)], one)
					break
				}
			}
		}
	}
	for _, one := range a.all {
		if !settled[one] {
			a.intermediates.AddCert(one.Certificate)
			continue
		}
		a.ends.AddCert(one.Certificate)
		if one.cloud() {
			a.akEnds.AddCert(one.Certificate)
		}
	}
}

// cloud reports whether the whole way up is one that certifies AKs.
func (one *Authority) cloud() bool {
	for ; one != nil; one = one.parent {
		if !one.Cloud {
			return false
		}
	}
	return true
}

// signedBy reports whether parent signed c, be it with SHA-1.
func signedBy(c, parent *x509.Certificate) bool {
	if parent.KeyUsage != 0 && parent.KeyUsage&x509.KeyUsageCertSign == 0 {
		return false
	}
	if c.SignatureAlgorithm != x509.SHA1WithRSA {
		return parent.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	}
	key, ok := parent.PublicKey.(*rsa.PublicKey)
	if !ok {
		return false
	}
	sum := sha1.Sum(c.RawTBSCertificate)
	return rsa.VerifyPKCS1v15(key, crypto.SHA1, sum[:], c.Signature) == nil
}
