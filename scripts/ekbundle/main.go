// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Command ekbundle writes the folder of TPM makers' certificates that package
// ek ships, with its manifest. It ships in no program; scripts/ek-bundle.sh
// fetches what it reads.
//
//	ekbundle -o DIR "SOURCE=FILE or DIRECTORY" …
//
// It refuses what is no authority's certificate, and an issuer that it does
// not know: whom to trust is a person's decision, made in this file.
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// vendors are the folders, by the organization that a certificate names.
var vendors = map[string]string{
	"Advanced Micro Devices":         "AMD",
	"Atmel":                          "Atmel",
	"Google LLC":                     "Google",
	"Infineon Technologies AG":       "Infineon",
	"VeriSign, Inc.":                 "Infineon", // root above IFX TPM EK Root CA
	"Intel Corporation":              "Intel",
	"Microsoft Corporation":          "Microsoft",
	"Nationz Technologies Inc":       "Nationz",
	"Nuvoton Technology Corporation": "Nuvoton",
	"STMicroelectronics NV":          "STMicro",
	"GlobalSign":                     "STMicro", // roots above ST's
}

const head = `# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The jurat authors
#
# Written by scripts/ek-bundle.sh. What this list does not name is not trusted,
# and a file that differs from it stops the program. Columns, by tabs: SHA-256
# of the DER, file, role, first day, last day, packages it came from, subject.
`

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "-----END CERTIFICATE-----"
)

type entry struct {
	cert    *x509.Certificate
	sum     string
	file    string
	role    string
	sources []string
}

func main() {
	out := flag.String("o", "", "`directory` to write")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "ekbundle:", err)
		os.Exit(1)
	}
}

func run(out string, sources []string) error {
	if out == "" || len(sources) == 0 {
		return fmt.Errorf("want -o DIR and sources")
	}
	var all []*entry
	for _, s := range sources {
		name, path, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("source %q, want NAME=PATH", s)
		}
		ders, err := collect(path)
		if err != nil {
			return err
		}
		for _, der := range ders {
			if all, err = add(all, der, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	slices.SortFunc(all, func(a, b *entry) int { return strings.Compare(a.file, b.file) })
	return write(out, all)
}

// collect finds certificates in files below path: DER as a whole, or PEM in
// whatever surrounds it, such as a library.
func collect(path string) (ders [][]byte, err error) {
	err = filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		n := len(ders)
		for {
			_, rest, begun := bytes.Cut(data, []byte(pemBegin))
			body, rest, ended := bytes.Cut(rest, []byte(pemEnd))
			if !begun || !ended {
				break
			}
			// What follows may be anything, which package pem does not like.
			if block, _ := pem.Decode(slices.Concat([]byte(pemBegin), body, []byte(pemEnd))); block != nil {
				ders = append(ders, block.Bytes)
			}
			data = rest
		}
		if len(ders) == n {
			ders = append(ders, data)
		}
		return nil
	})
	return ders, err
}

func add(all []*entry, der []byte, source string) ([]*entry, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if !cert.IsCA || !cert.BasicConstraintsValid || len(cert.Subject.Organization) != 1 {
		return nil, fmt.Errorf("%s is not an authority's", cert.Subject)
	}
	sum := sha256.Sum256(der)
	e := &entry{cert: cert, sum: hex.EncodeToString(sum[:]), role: "intermediate", sources: []string{source}}
	for _, known := range all {
		if known.sum == e.sum {
			known.sources = append(known.sources, source)
			return all, nil
		}
	}
	vendor, ok := vendors[cert.Subject.Organization[0]]
	if !ok {
		return nil, fmt.Errorf("unknown organization %q", cert.Subject.Organization[0])
	}
	if bytes.Equal(cert.RawSubject, cert.RawIssuer) {
		e.role = "root"
	}
	e.file = vendor + "/" + slug(cert.Subject.CommonName) + "-" + e.sum[:8] + ".pem"
	return append(all, e), nil
}

// slug makes a name for a file: lower case, everything else a hyphen.
func slug(s string) string {
	words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	s = strings.Join(words, "-")
	return strings.Trim(s[:min(len(s), 40)], "-")
}

func write(out string, all []*entry) error {
	var manifest strings.Builder
	manifest.WriteString(head)
	for _, e := range all {
		path := filepath.Join(out, filepath.FromSlash(e.file))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.cert.Raw})
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&manifest, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.sum, e.file, e.role, e.cert.NotBefore.Format(time.DateOnly),
			e.cert.NotAfter.Format(time.DateOnly), strings.Join(e.sources, ", "), e.cert.Subject)
	}
	return os.WriteFile(filepath.Join(out, "MANIFEST"), []byte(manifest.String()), 0o644)
}
