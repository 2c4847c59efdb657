// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ek

import (
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// TPM is what a certificate says about the TPM (TCG EK Credential Profile for
// TPM 2.0, section 3.2.9). Texts are as they stand there and must be cleaned
// before they are printed.
type TPM struct {
	Named        bool // the other members are filled in
	Manufacturer Manufacturer
	Model        string // may be empty
	Version      string // of the firmware, as it left the factory; may be empty
	Firmware     Firmware
	Readable     bool // Firmware is what Version says
}

// The attributes of the directory name.
var (
	oidManufacturer = stdasn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidModel        = stdasn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidVersion      = stdasn1.ObjectIdentifier{2, 23, 133, 2, 3}
)

// maxAttribute bounds a manufacturer, model or version, in bytes.
const maxAttribute = 64

// errSAN is a name that is not DER as RFC 5280 wants it.
var errSAN = errors.New("not a sequence of names")

// parseSAN reads the TPM's attributes out of a subject alternative name:
// directory names of it, however the attributes are spread over their relative
// names. Other kinds of names are passed over.
func parseSAN(der []byte) (TPM, error) {
	var t TPM
	found := make(map[string]string)
	in := cryptobyte.String(der)
	var names cryptobyte.String
	if !in.ReadASN1(&names, asn1.SEQUENCE) || !in.Empty() || names.Empty() {
		return t, errSAN
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag asn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return t, errSAN
		}
		if tag != asn1.Tag(4).ContextSpecific().Constructed() {
			continue
		}
		if err := readDirectoryName(name, found); err != nil {
			return t, err
		}
	}
	maker, ok := found[oidManufacturer.String()]
	if !ok {
		if len(found) > 0 {
			return t, errors.New("model or version of a TPM without its manufacturer")
		}
		return t, nil
	}
	var err error
	if t.Manufacturer, err = ParseManufacturer(maker); err != nil {
		return t, err
	}
	t.Named, t.Model, t.Version = true, found[oidModel.String()], found[oidVersion.String()]
	t.Firmware, t.Readable = parseVersion(t.Version)
	return t, nil
}

// readDirectoryName adds the TPM's attributes of one Name to found.
func readDirectoryName(name cryptobyte.String, found map[string]string) error {
	var rdns cryptobyte.String
	if !name.ReadASN1(&rdns, asn1.SEQUENCE) || !name.Empty() {
		return errSAN
	}
	for !rdns.Empty() {
		var rdn cryptobyte.String
		if !rdns.ReadASN1(&rdn, asn1.SET) || rdn.Empty() {
			return errSAN
		}
		for !rdn.Empty() {
			var pair, value cryptobyte.String
			var oid stdasn1.ObjectIdentifier
			var tag asn1.Tag
			if !rdn.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1ObjectIdentifier(&oid) || !pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
				return errSAN
			}
			if !oid.Equal(oidManufacturer) && !oid.Equal(oidModel) && !oid.Equal(oidVersion) {
				continue
			}
			if tag != asn1.UTF8String && tag != asn1.PrintableString && tag != asn1.IA5String {
				return fmt.Errorf("attribute %v is no text", oid)
			}
			if len(value) == 0 || len(value) > maxAttribute {
				return fmt.Errorf("attribute %v has %d bytes, want 1 to %d", oid, len(value), maxAttribute)
			}
			if _, twice := found[oid.String()]; twice {
				return fmt.Errorf("attribute %v is there twice", oid)
			}
			found[oid.String()] = string(value)
		}
	}
	return nil
}
