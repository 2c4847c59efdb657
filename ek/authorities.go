// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxAuthority bounds one file of certificates.
const maxAuthority = 4 << 20

// Authorities are the makers of TPMs that the operator trusts: roots, and the
// intermediates on the way to them.
type Authorities struct {
	roots, intermediates *x509.CertPool
	count                int // roots
}

// Open reads certificates, PEM or DER, from files and from directories with
// everything below them. In a directory, files that hold no certificate are
// passed over; one that is named must hold one. A certificate signed by itself
// becomes a root, any other authority an intermediate.
func Open(paths ...string) (*Authorities, error) {
	a := &Authorities{roots: x509.NewCertPool(), intermediates: x509.NewCertPool()}
	for _, path := range paths {
		found, err := a.open(path)
		if err != nil {
			return nil, err
		}
		if found == 0 {
			return nil, fmt.Errorf("no certificate of an authority in %s", path)
		}
	}
	if len(paths) > 0 && a.count == 0 {
		return nil, errors.New("EK authorities: intermediates only, no root")
	}
	return a, nil
}

// Roots returns how many roots there are.
func (a *Authorities) Roots() int { return a.count }

func (a *Authorities) open(path string) (found int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if !info.IsDir() {
		return a.readFile(path)
	}
	err = filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".pem", ".crt", ".cer", ".der"}, strings.ToLower(filepath.Ext(name))) {
			return err
		}
		n, err := a.readFile(name)
		found += n
		return err
	})
	return found, err
}

func (a *Authorities) readFile(path string) (int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if info.Size() > maxAuthority {
		return 0, fmt.Errorf("%s has %d bytes, at most %d", path, info.Size(), maxAuthority)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := a.add(data)
	if err != nil {
		return 0, fmt.Errorf("%s: %v", path, err)
	}
	return n, nil
}

// add takes in one file's worth of certificates.
func (a *Authorities) add(data []byte) (int, error) {
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
			return 0, fmt.Errorf("certificate %d (%s) is not an authority's", i, cert.Subject)
		}
		if bytes.Equal(cert.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(cert) == nil {
			a.roots.AddCert(cert)
			a.count++
		} else {
			a.intermediates.AddCert(cert)
		}
	}
	return len(ders), nil
}
