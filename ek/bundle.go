// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"embed"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/jurat-dev/jurat/evidence"
)

// shipped is the bundle, written by scripts/ek-bundle.sh. Its NOTICE says where
// the certificates come from.
//
//go:embed vendors
var shipped embed.FS

// shippedLine is one line of the manifest.
type shippedLine struct {
	fingerprint evidence.Hash
	file        string // VENDOR/NAME.pem
	root        bool
	notBefore   time.Time // day
	notAfter    time.Time // day
	source      string
	subject     string
}

// manifest reads the list that pins what ships.
func manifest(bundle fs.FS) ([]shippedLine, error) {
	text, err := fs.ReadFile(bundle, "vendors/MANIFEST")
	if err != nil {
		return nil, err
	}
	var out []shippedLine
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 7 || f[2] != "root" && f[2] != "intermediate" {
			return nil, fmt.Errorf("shipped EK authorities: line %q", clean(line))
		}
		l := shippedLine{file: f[1], root: f[2] == "root", source: f[5], subject: f[6]}
		sum, err := hex.DecodeString(f[0])
		if err != nil || len(sum) != len(l.fingerprint) {
			return nil, fmt.Errorf("shipped EK authorities: digest %q", clean(f[0]))
		}
		l.fingerprint = evidence.Hash(sum)
		if l.notBefore, err = time.Parse(time.DateOnly, f[3]); err != nil {
			return nil, err
		}
		if l.notAfter, err = time.Parse(time.DateOnly, f[4]); err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// addShipped adds a bundle. Each certificate must be the one that its manifest
// names.
func (a *Authorities) addShipped(bundle fs.FS) error {
	lines, err := manifest(bundle)
	if err != nil {
		return err
	}
	for _, l := range lines {
		text, err := fs.ReadFile(bundle, path.Join("vendors", l.file))
		if err != nil {
			return err
		}
		block, rest := pem.Decode(text)
		if block == nil || len(bytes.TrimSpace(rest)) > 0 {
			return fmt.Errorf("shipped EK authorities: %s is not one certificate", l.file)
		}
		folder := path.Dir(l.file)
		v, known := vendors[folder]
		if !known {
			return fmt.Errorf("shipped EK authorities: unknown vendor %q", folder)
		}
		if _, err := a.add(text, Authority{Vendor: folder, Origin: OriginShipped, Cloud: v.cloud}); err != nil {
			return fmt.Errorf("shipped EK authorities: %s: %v", l.file, err)
		}
		if one := a.byFingerprint[l.fingerprint]; one == nil || one.Root != l.root || !bytes.Equal(one.Certificate.Raw, block.Bytes) {
			return fmt.Errorf("shipped EK authorities: %s is not what the manifest says", l.file)
		}
	}
	return nil
}
