// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// refusedByGo are the shipped certificates that crypto/x509 does not take, with
// the reason. There are none; one that comes to be here needs a decision.
var refusedByGo = map[string]string{}

// TestShipped holds each shipped certificate to the manifest, and the manifest
// to what is there.
func TestShipped(t *testing.T) {
	lines, err := manifest(shipped)
	must(t, err)
	var files []string
	must(t, fs.WalkDir(shipped, "vendors", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Base(name) != "MANIFEST" && path.Base(name) != "NOTICE" {
			files = append(files, strings.TrimPrefix(name, "vendors/"))
		}
		return err
	}))
	var named []string
	notice, err := fs.ReadFile(shipped, "vendors/NOTICE")
	must(t, err)
	for _, l := range lines {
		named = append(named, l.file)
		text, err := fs.ReadFile(shipped, "vendors/"+l.file)
		must(t, err)
		block, _ := pem.Decode(text)
		c, err := ParseCertificate(block.Bytes)
		if reason, known := refusedByGo[l.file]; known || err != nil {
			if err == nil || reason == "" || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s: %v, on record is %q", l.file, err, reason)
			}
			continue
		}
		if sha256.Sum256(c.Raw) != l.fingerprint || !c.IsCA || !c.BasicConstraintsValid || c.Version != 3 {
			t.Errorf("%s: not the authority of the manifest", l.file)
		}
		if got := c.NotBefore.Format(time.DateOnly) + c.NotAfter.Format(time.DateOnly) + c.Subject.String(); got != l.notBefore.Format(time.DateOnly)+l.notAfter.Format(time.DateOnly)+l.subject {
			t.Errorf("%s: the manifest says something else than %s", l.file, got)
		}
		for _, source := range strings.Split(l.source, ", ") {
			if !bytes.Contains(notice, []byte(source)) {
				t.Errorf("%s: NOTICE does not name %s", l.file, source)
			}
		}
		if !c.NotAfter.After(time.Now()) {
			t.Logf("%s has expired (%s)", l.file, c.NotAfter.Format(time.DateOnly)) // to be seen, not to fail on a day
		}
	}
	slices.Sort(files)
	if !slices.Equal(files, named) {
		t.Errorf("files %v\nmanifest %v", files, named)
	}
	a, err := Open(BundleShipped)
	must(t, err)
	if len(a.All()) != len(lines) || a.Roots() < 20 {
		t.Errorf("%d authorities of %d, %d roots", len(a.All()), len(lines), a.Roots())
	}
	for _, one := range a.All() {
		if _, ok := vendors[one.Vendor]; !ok || one.Origin != OriginShipped || one.Cloud != (one.Vendor == "Google") {
			t.Errorf("%+v", one)
		}
	}
	for folder := range vendors {
		if !slices.ContainsFunc(a.All(), func(one *Authority) bool { return one.Vendor == folder && one.Root }) {
			t.Errorf("no root of %s", folder)
		}
	}
}

// TestIntermediatesLeadToRoots: no shipped intermediate is there for nothing.
func TestIntermediatesLeadToRoots(t *testing.T) {
	a, err := Open(BundleShipped)
	must(t, err)
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, one := range a.All() {
		if one.Root {
			continue
		}
		if one.parent != nil {
			if !one.parent.Root {
				t.Errorf("%s ends nowhere", one.Certificate.Subject)
			}
			continue
		}
		c := &Certificate{Certificate: one.Certificate}
		if _, _, err := a.path(c, nil, &forEK, at); err != nil {
			t.Errorf("%s: %v", one.Certificate.Subject, err)
		}
	}
}

// TestBundleTampered: what differs from the manifest stops the program.
func TestBundleTampered(t *testing.T) {
	m, thief := newMaker(t), newMaker(t)
	pemOf := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	line := func(der []byte, file, role string) string {
		sum := sha256.Sum256(der)
		return fmt.Sprintf("%s\t%s\t%s\t2027-01-01\t2027-01-02\tx\ty\n", hex.EncodeToString(sum[:]), file, role)
	}
	good := line(m.root.Raw, "AMD/a.pem", "root") + line(m.intermediate.Raw, "AMD/b.pem", "intermediate")
	bundle := func(list string, a, b []byte) fs.FS {
		return fstest.MapFS{"vendors/MANIFEST": {Data: []byte("# x\n" + list)}, "vendors/AMD/a.pem": {Data: a}, "vendors/AMD/b.pem": {Data: b}, "vendors/New/a.pem": {Data: a}}
	}
	a, b := pemOf(m.root.Raw), pemOf(m.intermediate.Raw)
	if err := newAuthorities().addShipped(bundle(good, a, b)); err != nil {
		t.Fatalf("the good bundle, on which the cases stand: %v", err)
	}
	for name, bad := range map[string]fs.FS{
		"no manifest":            fstest.MapFS{},
		"another root":           bundle(good, pemOf(thief.root.Raw), b),
		"a second certificate":   bundle(good, append(a, pemOf(thief.root.Raw)...), b),
		"no certificate":         bundle(good, []byte("x"), b),
		"missing file":           bundle(good+line(m.root.Raw, "AMD/c.pem", "root"), a, b),
		"intermediate as root":   bundle(line(m.intermediate.Raw, "AMD/b.pem", "root"), a, b),
		"root as intermediate":   bundle(line(m.root.Raw, "AMD/a.pem", "intermediate"), a, b),
		"unknown role":           bundle(line(m.root.Raw, "AMD/a.pem", "leaf"), a, b),
		"unknown vendor":         bundle(line(m.root.Raw, "New/a.pem", "root"), a, b),
		"a column missing":       bundle(strings.Replace(good, "\tx", "", 1), a, b),
		"a digest that is short": bundle(good[2:], a, b),
		"a day that is none":     bundle(strings.Replace(good, "2027-01-01", "2027-13-01", 1), a, b),
	} {
		if err := newAuthorities().addShipped(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
