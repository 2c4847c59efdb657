// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jurat-dev/jurat/evidence"
)

// RulesFile is the name of a file of rules in a folder of authorities.
const RulesFile = "ek-rules.txt"

const (
	maxRules = 4 << 20
	maxRule  = 1024 // bytes in a line
)

// Rules are an operator's word on what is believed beside the certificates. A
// deny rule beats everything, a pin too.
//
// In a file there is one rule a line; what follows # after a space or at the
// beginning is a comment. A line that is no rule is an error.
//
//	allow manufacturer IFX                    # only those that are allowed; none: see below
//	deny manufacturer id:4E544300
//	deny firmware IFX 4.0-4.33                # as it left the factory, see Firmware
//	deny key sha-256:9f86…                    # SubjectPublicKeyInfo of an EK, or of an authority
//	deny certificate 0a1b2c CN=Some CA,O=ST   # serial number and issuer, as 'jurat ek check' prints them
//
// Without an allow rule, below a root that ships with jurat the makers whose
// roots ship are allowed, and below a root of the operator's whoever it
// certifies.
type Rules struct {
	allowed      map[Manufacturer]bool
	manufacturer map[Manufacturer]bool
	firmware     map[Manufacturer][]firmwareRange
	keys         map[evidence.Hash]bool
	serials      map[string]bool // hexadecimal, space, issuer
	count        int
}

// firmwareRange is what lies from low to high, builds of high included.
type firmwareRange struct{ low, high Firmware }

// Len returns how many rules there are.
func (r *Rules) Len() int { return r.count }

// ParseRules reads a file of rules.
func ParseRules(data []byte) (*Rules, error) {
	if len(data) > maxRules {
		return nil, fmt.Errorf("rules: %d bytes, at most %d", len(data), maxRules)
	}
	r, n := new(Rules), 0
	for line := range bytes.Lines(data) {
		n++
		if len(line) > maxRule || !utf8.Valid(line) {
			return nil, fmt.Errorf("line %d: not a text of at most %d bytes", n, maxRule)
		}
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "#") {
			continue
		}
		text, _, _ = strings.Cut(text, " #")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := r.parse(text); err != nil {
			return nil, fmt.Errorf("line %d: %v", n, err)
		}
		r.count++
	}
	return r, nil
}

var errNoRule = errors.New("want 'allow manufacturer ID', or 'deny' with 'manufacturer ID', 'firmware ID LOW-HIGH', 'key sha-256:HEX' or 'certificate SERIAL ISSUER'")

func (r *Rules) parse(text string) error {
	verb, rest := word(text)
	what, rest := word(rest)
	switch {
	case verb == "allow" && what == "manufacturer":
		return parseMaker(&r.allowed, rest)
	case verb == "deny" && what == "manufacturer":
		return parseMaker(&r.manufacturer, rest)
	case verb == "deny" && what == "firmware":
		return r.parseFirmware(rest)
	case verb == "deny" && what == "key":
		digits, ok := strings.CutPrefix(rest, "sha-256:")
		sum, err := hex.DecodeString(digits)
		if !ok || err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("key %q, want sha-256: and 64 hexadecimal digits", clean(rest))
		}
		put(&r.keys, evidence.Hash(sum))
		return nil
	case verb == "deny" && what == "certificate":
		serial, issuer := word(rest)
		n, ok := new(big.Int).SetString(strings.ReplaceAll(serial, ":", ""), 16)
		if !ok || n.Sign() < 0 || issuer == "" {
			return fmt.Errorf("certificate %q, want a serial number in hexadecimal and an issuer", clean(rest))
		}
		put(&r.serials, n.Text(16)+" "+issuer)
		return nil
	}
	return errNoRule
}

// word takes the first word off a text.
func word(text string) (first, rest string) {
	first, rest, _ = strings.Cut(text, " ")
	return first, strings.TrimSpace(rest)
}

func put[K comparable](set *map[K]bool, k K) {
	if *set == nil {
		*set = make(map[K]bool)
	}
	(*set)[k] = true
}

func parseMaker(set *map[Manufacturer]bool, text string) error {
	m, err := ParseManufacturer(text)
	if err == nil {
		put(set, m)
	}
	return err
}

func (r *Rules) parseFirmware(text string) error {
	id, versions := word(text)
	m, err := ParseManufacturer(id)
	if err != nil {
		return err
	}
	low, high, ranged := strings.Cut(versions, "-")
	if !ranged {
		high = low
	}
	var f firmwareRange
	if f.low, _, err = parseDotted(low); err != nil {
		return err
	}
	exact := false
	if f.high, exact, err = parseDotted(high); err != nil {
		return err
	}
	if !exact {
		f.high.Build = ^uint32(0)
	}
	if f.high.less(f.low) {
		return fmt.Errorf("firmware %q ends before it begins", clean(versions))
	}
	if r.firmware == nil {
		r.firmware = make(map[Manufacturer][]firmwareRange)
	}
	r.firmware[m] = append(r.firmware[m], f)
	return nil
}

// parseDotted reads MAJOR.MINOR or MAJOR.MINOR.BUILD, in decimal.
func parseDotted(s string) (f Firmware, build bool, err error) {
	parts := strings.Split(s, ".")
	var n [3]uint64
	if len(parts) != 2 && len(parts) != 3 {
		return f, false, fmt.Errorf("firmware %q, want MAJOR.MINOR or MAJOR.MINOR.BUILD in decimal", clean(s))
	}
	for i, p := range parts {
		if n[i], err = strconv.ParseUint(p, 10, []int{16, 16, 32}[i]); err != nil {
			return f, false, fmt.Errorf("firmware %q: %v", clean(s), err)
		}
	}
	return Firmware{uint16(n[0]), uint16(n[1]), uint32(n[2])}, len(parts) == 3, nil
}

func (f Firmware) less(g Firmware) bool {
	if f.Major != g.Major {
		return f.Major < g.Major
	}
	if f.Minor != g.Minor {
		return f.Minor < g.Minor
	}
	return f.Build < g.Build
}

// add takes in the rules of another file.
func (r *Rules) add(o *Rules) {
	for m := range o.allowed {
		put(&r.allowed, m)
	}
	for m := range o.manufacturer {
		put(&r.manufacturer, m)
	}
	for m, list := range o.firmware {
		if r.firmware == nil {
			r.firmware = make(map[Manufacturer][]firmwareRange)
		}
		r.firmware[m] = append(r.firmware[m], list...)
	}
	for k := range o.keys {
		put(&r.keys, k)
	}
	for s := range o.serials {
		put(&r.serials, s)
	}
	r.count += o.count
}

// DenyKey reports whether a key, by the SHA-256 of its SubjectPublicKeyInfo, is
// denied.
func (r *Rules) DenyKey(spki evidence.Hash) error {
	if r.keys[spki] {
		return fault(CodeDenied, "key", "sha-256:%s is denied", spki)
	}
	return nil
}

// DenyFirmware reports whether a maker's firmware is denied. It serves for what
// a certificate says and, with [FirmwareOf], for what a quote says.
func (r *Rules) DenyFirmware(m Manufacturer, f Firmware) error {
	for _, bad := range r.firmware[m] {
		if !f.less(bad.low) && !bad.high.less(f) {
			return fault(CodeDenied, "firmware", "%s of %s lies in the denied %s-%d.%d", f, m, bad.low, bad.high.Major, bad.high.Minor)
		}
	}
	return nil
}

// denyCertificate holds a certificate of a path against the rules, by its key
// and by serial number and issuer.
func (r *Rules) denyCertificate(c *x509.Certificate, spki evidence.Hash) *Error {
	if r.keys[spki] {
		return fault(CodeDenied, "certificate", "key sha-256:%s of %s is denied", spki, c.Subject)
	}
	if name := c.SerialNumber.Text(16) + " " + c.Issuer.String(); r.serials[name] {
		return fault(CodeDenied, "certificate", "%s is denied", name)
	}
	return nil
}

// denyTPM holds what a certificate says about its TPM against the rules. A
// version that cannot be read is denied where some of its maker are.
func (r *Rules) denyTPM(t *TPM) *Error {
	if !t.Named {
		return nil
	}
	if r.manufacturer[t.Manufacturer] {
		return fault(CodeDenied, "manufacturer", "%s is denied", t.Manufacturer)
	}
	if len(r.firmware[t.Manufacturer]) == 0 {
		return nil
	}
	if !t.Readable {
		return fault(CodeDenied, "firmware", "version %q of %s cannot be read, and some versions are denied", t.Version, t.Manufacturer)
	}
	if err := r.DenyFirmware(t.Manufacturer, t.Firmware); err != nil {
		return err.(*Error)
	}
	return nil
}

// allow reports whether a manufacturer may be named below an end of a path.
func (r *Rules) allow(m Manufacturer, end *Authority) *Error {
	switch {
	case r.allowed[m]:
		return nil
	case len(r.allowed) > 0:
		return fault(CodeManufacturer, "EK certificate", "%s is not among those that are allowed (%s)", m, r.names())
	case end.Origin == OriginShipped && !shippedManufacturer(m):
		return fault(CodeManufacturer, "EK certificate", "%s is not a maker whose roots ship; 'allow manufacturer' in %s allows it", m, RulesFile)
	}
	return nil
}

func (r *Rules) names() string {
	var out []string
	for m := range r.allowed {
		out = append(out, m.String())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
