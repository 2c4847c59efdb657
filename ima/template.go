// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

package ima

import (
	"bytes"
)

// layouts are the fields of the templates that have a name (ima_template.c).
var layouts = map[string][]byte{
	"ima":        []byte("d|n"),
	"ima-ng":     []byte("d-ng|n-ng"),
	"ima-sig":    []byte("d-ng|n-ng|sig"),
	"ima-ngv2":   []byte("d-ngv2|n-ng"),
	"ima-sigv2":  []byte("d-ngv2|n-ng|sig"),
	"ima-buf":    []byte("d-ng|n-ng|buf"),
	"ima-modsig": []byte("d-ng|n-ng|sig|d-modsig|modsig"),
	"evm-sig":    []byte("d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode"),
}

// maxFields is the kernel's IMA_TEMPLATE_NUM_FIELDS_MAX.
const maxFields = 15

// form is how a field is written in an ASCII list.
type form uint8

const (
	formNone      form = iota // no field that a kernel knows
	formDigest                // hexadecimal
	formAlgorithm             // algorithm:hexadecimal
	formString                // as it is, without the zero byte at its end
	formHex
	formNumber
)

// fieldForm returns the form of a field of the kernel's supported_fields.
func fieldForm(id []byte) form {
	switch string(id) {
	case "d":
		return formDigest
	case "d-ng", "d-ngv2", "d-modsig":
		return formAlgorithm
	case "n", "n-ng", "xattrnames":
		return formString
	case "sig", "buf", "modsig", "evmsig", "xattrlengths", "xattrvalues":
		return formHex
	case "iuid", "igid", "imode":
		return formNumber
	}
	return formNone
}

// layout returns the fields of a template by its name, separated by '|', or
// nil. A template without a name is called by its fields.
func layout(template []byte) []byte {
	if l := layouts[string(template)]; l != nil {
		return l
	}
	rest, more := template, true
	for n := 0; more; n++ {
		var id []byte
		if id, rest, more = bytes.Cut(rest, []byte{'|'}); n == maxFields || fieldForm(id) == formNone {
			return nil
		}
	}
	return template
}

// Opaque reports whether the entry cannot be taken apart: its template is none
// that a kernel has, or its data are not in the form of its template. It counts
// in a replay all the same.
func (e *Entry) Opaque() bool {
	f := e.fields()
	for f.next() {
	}
	return f.bad
}

// Field is one field of an entry.
type Field struct {
	ID    string // "d-ng", "n-ng", "sig"
	Value []byte
}

// Fields returns the fields of the entry, in their order, or nil if it is
// [Entry.Opaque].
func (e *Entry) Fields() []Field {
	var out []Field
	f := e.fields()
	for f.next() {
		out = append(out, Field{string(f.id), f.value})
	}
	if f.bad {
		return nil
	}
	return out
}

// Field returns the first field called id, such as "sig". It allocates nothing.
func (e *Entry) Field(id string) (value []byte, ok bool) {
	f := e.fields()
	for f.next() {
		if !ok && string(f.id) == id {
			value, ok = f.value, true
		}
	}
	if f.bad {
		return nil, false
	}
	return value, ok
}

// fields walks through the data of an entry.
type fields struct {
	layout, data []byte
	format       Format
	legacy, bad  bool
	id, value    []byte
}

func (e *Entry) fields() fields {
	l := layout(e.Template)
	return fields{layout: l, data: e.Data, format: Format{BigEndian: e.bigEndian}, legacy: e.legacy(), bad: l == nil}
}

// next goes to the next field; false is the end, or data in no good form.
func (f *fields) next() bool {
	if f.bad || len(f.layout) == 0 {
		f.bad = f.bad || len(f.data) != 0
		return false
	}
	f.id, f.layout, _ = bytes.Cut(f.layout, []byte{'|'})
	n := uint64(20)
	if !f.legacy || string(f.id) != "d" {
		if len(f.data) < 4 {
			f.bad = true
			return false
		}
		n, f.data = uint64(f.format.u32(f.data)), f.data[4:]
	}
	if n > uint64(len(f.data)) {
		f.bad = true
		return false
	}
	f.value, f.data = f.data[:n:n], f.data[n:]
	return true
}

// FileDigest is the digest of a file as the kernel computed it.
type FileDigest struct {
	// Algorithm is the kernel's name of it, such as "sha256". A digest by
	// fs-verity is not one of the file's contents: it is "verity:sha256".
	Algorithm string
	Digest    []byte
}

// File returns the digest of the file that was measured and the path under
// which the kernel met it. ok is false for a violation, for a buffer, and where
// the template has no digest or the digest has not the length of its algorithm.
//
// The path is a hint: the same file has others, other mount namespaces give it
// other meanings, and spaces in it were made underscores. The first entry of
// each boot is about no file: see [Entry.BootAggregate].
func (e *Entry) File() (digest FileDigest, path []byte, ok bool) {
	if e.Violation() {
		return FileDigest{}, nil, false
	}
	if buf, _ := e.Field("buf"); len(buf) != 0 || string(e.Template) == "ima-buf" {
		return FileDigest{}, nil, false
	}
	digest, ok = e.Digest()
	path = e.Name()
	if !ok || bytes.IndexByte(path, 0) >= 0 {
		return FileDigest{}, nil, false
	}
	return digest, path, true
}

// Digest returns the first digest in the entry, of whatever was measured. See
// [Entry.File] for when it is that of a file.
func (e *Entry) Digest() (digest FileDigest, ok bool) {
	f := e.fields()
	for f.next() {
		if id := string(f.id); !ok && (id == "d" || id == "d-ng" || id == "d-ngv2") {
			digest, ok = parseDigest(f.id, f.value)
		}
	}
	if f.bad {
		return FileDigest{}, false
	}
	return digest, ok
}

// Name returns what the entry calls the thing it measured: a path, a keyring, a
// kind of critical data. It is there for people, and for a violation as well.
func (e *Entry) Name() []byte {
	name, ok := e.Field("n-ng")
	if !ok {
		name, _ = e.Field("n")
	}
	return bytes.TrimRight(name, "\x00")
}

// parseDigest reads a field with a digest in it.
//
//	d       digest
//	d-ng    algorithm ":" NUL digest
//	d-ngv2  type ":" algorithm ":" NUL digest, where type is "ima" or "verity"
func parseDigest(id, value []byte) (FileDigest, bool) {
	if string(id) == "d" {
		switch len(value) {
		case 16:
			return FileDigest{"md5", value}, true
		case 20:
			return FileDigest{"sha1", value}, true
		}
		return FileDigest{}, false
	}
	label, digest, ok := bytes.Cut(value, []byte(":\x00"))
	if !ok {
		return FileDigest{}, false
	}
	verity := false
	if string(id) == "d-ngv2" {
		if label, verity = bytes.CutPrefix(label, []byte("verity:")); !verity {
			if label, ok = bytes.CutPrefix(label, []byte("ima:")); !ok {
				return FileDigest{}, false
			}
		}
	}
	for _, a := range algorithms {
		if a.name == string(label) && a.size == len(digest) {
			if verity {
				return FileDigest{a.verity, digest}, true
			}
			return FileDigest{a.name, digest}, true
		}
	}
	return FileDigest{}, false
}

// algorithms are those of the kernel's hash_algo_name (crypto/hash_info.c).
var algorithms = []struct {
	name, verity string
	size         int // bytes of a digest
}{
	{"sha256", "verity:sha256", 32}, {"sha1", "verity:sha1", 20}, {"sha512", "verity:sha512", 64}, {"sha384", "verity:sha384", 48},
	{"sha224", "verity:sha224", 28}, {"md5", "verity:md5", 16}, {"md4", "verity:md4", 16}, {"sm3", "verity:sm3", 32},
	{"sm3-256", "verity:sm3-256", 32}, {"sha3-256", "verity:sha3-256", 32}, {"sha3-384", "verity:sha3-384", 48}, {"sha3-512", "verity:sha3-512", 64},
	{"rmd128", "verity:rmd128", 16}, {"rmd160", "verity:rmd160", 20}, {"rmd256", "verity:rmd256", 32}, {"rmd320", "verity:rmd320", 40},
	{"wp256", "verity:wp256", 32}, {"wp384", "verity:wp384", 48}, {"wp512", "verity:wp512", 64},
	{"tgr128", "verity:tgr128", 16}, {"tgr160", "verity:tgr160", 20}, {"tgr192", "verity:tgr192", 24},
	{"streebog256", "verity:streebog256", 32}, {"streebog512", "verity:streebog512", 64},
}
